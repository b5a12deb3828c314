package lab

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/flix-lab/flix/lab/runtime/embedded"
)

// RunHost runs a host of the embedded runtime in this process until it is told
// to quit. Its instances log as JSON lines to the lab's logs folder; spans are
// exported over OTLP too when OTEL_EXPORTER_OTLP_ENDPOINT is set.
func RunHost(ctx context.Context, env Env, dir, host, socket string) error {
	embedded.CloseInherited()
	ready := embedded.Spawned(env.Getenv)
	f, err := os.OpenFile(instanceLog(filepath.Join(dir, "logs"), host), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		ready.Tell(err)
		return err
	}
	defer f.Close()
	h := slog.NewJSONHandler(f, &slog.HandlerOptions{Level: logLevel(env)})
	exp, err := exporter(ctx, env)
	if err != nil {
		ready.Tell(err)
		return err
	}
	return embedded.RunHost(ctx, dir, host, socket, newWiring(h, exp), slog.New(h).With("instance", "host/"+host), ready)
}

// instanceLog is the file that a host's instances log to.
func instanceLog(logs, host string) string { return filepath.Join(logs, host+".jsonl") }

// logLevel is FLIX_LOG_LEVEL (debug, info, warn, error); info if unset.
func logLevel(env Env) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(env.Getenv("FLIX_LOG_LEVEL"))); err != nil {
		return slog.LevelInfo
	}
	return l
}

func exporter(ctx context.Context, env Env) (sdktrace.SpanExporter, error) {
	if env.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && env.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil, nil
	}
	return otlptracehttp.New(ctx) // reads the OTEL_ variables itself; connects later
}
