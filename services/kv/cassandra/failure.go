package cassandra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
)

// Reasons that the client gives to its errors.
const (
	// ReasonNoSchema: the keyspace or the table is not there. See Migrate.
	ReasonNoSchema = "no_schema"
	// ReasonUnconfirmed: a global write is applied in its own region, and was
	// not confirmed by a second one.
	ReasonUnconfirmed = "unconfirmed"
	// ReasonUnknown: a conditional write may or may not be applied.
	ReasonUnknown = "outcome_unknown"
)

// failed turns an error of the driver into a services.Error that names the
// region and the consistency asked for.
func (s *Store) failed(err error, c gocql.Consistency) error {
	if err == nil {
		return nil
	}
	at := fmt.Sprintf("Cassandra of %s at %s", s.cfg.Datacenter, c)
	if e := answered(err, at); e != nil {
		e.Err = err
		return e
	}
	kind, msg := services.Internal, at
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		kind, msg = services.Unavailable, at+" has not answered in time"
	case errors.Is(err, gocql.ErrTimeoutNoResponse), errors.Is(err, gocql.ErrNoStreams),
		errors.Is(err, gocql.ErrConnectionClosed), errors.Is(err, gocql.ErrNoConnections), errors.Is(err, gocql.ErrSessionClosed),
		errors.Is(err, gocql.ErrUnavailable), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &op):
		kind, msg = services.Unavailable, at+" is out of reach"
	}
	return &services.Error{Kind: kind, Msg: msg, Err: err}
}

// answered maps what a node answered; nil if err is no such answer.
func answered(err error, at string) *services.Error {
	var (
		unavailable  *gocql.RequestErrUnavailable
		writeTimeout *gocql.RequestErrWriteTimeout
		readTimeout  *gocql.RequestErrReadTimeout
		other        gocql.RequestError
	)
	switch {
	case errors.As(err, &unavailable):
		return services.Errorf(services.Unavailable, "%s needs %d replicas, %d are alive", at, unavailable.Required, unavailable.Alive)
	case errors.As(err, &writeTimeout):
		return services.Errorf(services.Unavailable, "%s: %d of %d replicas took the %s write in time", at, writeTimeout.Received, writeTimeout.BlockFor, strings.ToLower(writeTimeout.WriteType))
	case errors.As(err, &readTimeout):
		return services.Errorf(services.Unavailable, "%s: %d of %d replicas answered in time", at, readTimeout.Received, readTimeout.BlockFor)
	case errors.As(err, &other):
		return ofCode(other, at)
	}
	return nil
}

func ofCode(err gocql.RequestError, at string) *services.Error {
	switch err.Code() {
	case gocql.ErrCodeOverloaded, gocql.ErrCodeBootstrapping, gocql.ErrCodeTruncate, gocql.ErrCodeReadFailure, gocql.ErrCodeWriteFailure, gocql.ErrCodeCASWriteUnknown:
		return services.Errorf(services.Unavailable, "%s failed", at)
	case gocql.ErrCodeCredentials, gocql.ErrCodeUnauthorized:
		return services.Errorf(services.Denied, "%s refuses this client", at)
	case gocql.ErrCodeConfig:
		return services.Errorf(services.Invalid, "%s refuses the configuration", at)
	case gocql.ErrCodeInvalid:
		if noSchema(err.Message()) {
			return services.Errorf(services.Unavailable, "%s has no such table", at).WithReason(ReasonNoSchema).WithRemedy("migrate the schema: bring the lab up again")
		}
	}
	// Every value was checked and every statement is ours.
	return services.Errorf(services.Internal, "%s refuses a statement", at)
}

// noSchema says whether an error is about a table or keyspace that is missing.
func noSchema(msg string) bool {
	msg = strings.ToLower(msg)
	return strings.Contains(msg, "does not exist") || strings.Contains(msg, "unconfigured table")
}

// unconfirmed is the error of a global write that is applied in its region
// only, as far as the region knows.
func unconfirmed(err error) error {
	return &services.Error{
		Kind: services.Unavailable, Reason: ReasonUnconfirmed, Err: err,
		Msg:    "the write is applied in its region, unconfirmed by a second one",
		Remedy: "try again when more regions are up, or take the lost ones out of the cluster's replication",
	}
}
