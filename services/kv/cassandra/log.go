package cassandra

import (
	"context"
	"log/slog"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// driverLog gives the driver's records to the instance's log, one level lower:
// what the driver calls an error, such as a node that it cannot reach, is
// handled here or comes back from a call.
type driverLog struct{ log *slog.Logger }

// Error implements gocql.StructuredLogger.
func (l driverLog) Error(msg string, f ...gocql.LogField) { l.write(slog.LevelWarn, msg, f) }

// Warning implements gocql.StructuredLogger.
func (l driverLog) Warning(msg string, f ...gocql.LogField) { l.write(slog.LevelInfo, msg, f) }

// Info implements gocql.StructuredLogger.
func (l driverLog) Info(msg string, f ...gocql.LogField) { l.write(slog.LevelDebug, msg, f) }

// Debug implements gocql.StructuredLogger. The driver's debugging is of no use
// outside of it.
func (driverLog) Debug(string, ...gocql.LogField) {}

func (l driverLog) write(level slog.Level, msg string, fields []gocql.LogField) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, len(fields))
	for i, f := range fields {
		attrs[i] = slog.String(f.Name, f.Value.String())
	}
	l.log.LogAttrs(ctx, level, "cassandra driver: "+msg, attrs...)
}
