package mariadb

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"

	"github.com/go-sql-driver/mysql"

	"github.com/flix-lab/flix/services"
)

// Reasons of a failed transaction. Those that the embedded adapter has too are
// the same there.
const (
	// ReasonNotPrimary: the server that was asked to write is not the primary,
	// or no longer.
	ReasonNotPrimary = "not_primary"
	// ReasonNoPrimary: no primary is in reach.
	ReasonNoPrimary = "no_primary"
	// ReasonExists: a unique key is taken.
	ReasonExists = "key_exists"
	// ReasonNoChange: a statement that had to change a row did not.
	ReasonNoChange = "no_change"
	// ReasonBusy: other transactions stood in the way; nothing was changed.
	ReasonBusy = "busy"
	// ReasonUnreachable: no connection could be made; nothing was sent.
	ReasonUnreachable = "unreachable"
	// ReasonUnknown: the connection was lost after the transaction was sent.
	// It may or may not have been committed.
	ReasonUnknown = "outcome_unknown"
	// ReasonUnconfirmed: the transaction is committed on the primary, and no
	// replica has confirmed it.
	ReasonUnconfirmed = "unconfirmed"
	// ReasonNoSchema: the server has not got the tables yet.
	ReasonNoSchema = "no_schema"
	// ReasonDiverged: a server has transactions that the primary has not.
	ReasonDiverged = "diverged"
)

// Numbers of MariaDB's errors that are told apart.
const (
	errTooManyConns     = 1040
	errDatabaseDenied   = 1044
	errAccessDenied     = 1045
	errNullColumn       = 1048
	errNoDatabase       = 1049
	errShutdown         = 1053
	errNoColumn         = 1054
	errDuplicate        = 1062
	errSyntax           = 1064
	errWrongColumnCount = 1136
	errTableDenied      = 1142
	errNoTable          = 1146
	errTooManyUserConns = 1203
	errLockTimeout      = 1205
	errDeadlock         = 1213
	errUserLimit        = 1226
	errPrivilege        = 1227
	errBinlogFatal      = 1236
	errOutOfRange       = 1264
	errReadOnly         = 1290
	errInterrupted      = 1317
	errNoDefault        = 1364
	errBadValue         = 1366
	errTooLong          = 1406
	errSignal           = 1644
	errReadOnlyTx       = 1792
	errKilled           = 1927
)

func number(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// kinded gives an error of a statement its kind. The connection was there, so
// an error that is not the server's leaves open what became of it.
func kinded(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *services.Error
	if errors.As(err, &known) {
		return err
	}
	as := func(kind services.Kind, reason, msg string) *services.Error {
		return &services.Error{Kind: kind, Reason: reason, Msg: msg, Err: err}
	}
	switch n := number(err); n {
	case 0:
		switch {
		case errors.Is(err, driver.ErrBadConn):
			return as(services.Unavailable, ReasonUnreachable, "the connection was dead before anything was sent")
		case ctx.Err() != nil, lost(err):
			return as(services.Unavailable, ReasonUnknown, "the connection ended before the answer came").
				WithRemedy("do it again: a write that was done already changes nothing")
		}
		return err
	case errDuplicate:
		return as(services.Conflict, ReasonExists, "a row with this key exists")
	case errSignal:
		return as(services.Conflict, ReasonNoChange, "a statement of the transaction changed no row")
	case errReadOnly, errReadOnlyTx:
		return as(services.Unavailable, ReasonNotPrimary, "the server takes no writes")
	case errDeadlock, errLockTimeout:
		return as(services.Unavailable, ReasonBusy, "other transactions are in the way")
	case errShutdown, errKilled, errInterrupted:
		return as(services.Unavailable, ReasonUnknown, "the server ended the connection").
			WithRemedy("do it again: a write that was done already changes nothing")
	case errNoTable, errNoDatabase:
		return as(services.Unavailable, ReasonNoSchema, "the server has not got the tables yet").
			WithRemedy("wait until it has joined the others and caught up")
	case errSyntax, errNoColumn, errWrongColumnCount, errNullColumn, errNoDefault:
		return as(services.Invalid, "", "the statement is wrong")
	case errTooLong, errOutOfRange, errBadValue:
		return as(services.Invalid, "", "a value does not fit its column")
	default:
		return refusedConn(err)
	}
}

// refusedConn gives an error of a new connection its kind: nothing was sent.
func refusedConn(err error) error {
	var known *services.Error
	if errors.As(err, &known) {
		return err
	}
	switch number(err) {
	case errTooManyConns, errTooManyUserConns, errUserLimit:
		return &services.Error{Kind: services.Exhausted, Msg: "the server has too many connections", Err: err,
			Remedy: "raise max_connections of the region's server, or run fewer instances"}
	case errAccessDenied, errDatabaseDenied, errTableDenied, errPrivilege:
		return &services.Error{Kind: services.Denied, Msg: "the server refuses the account", Err: err,
			Remedy: "see that the password is the one that the server's data directory was made with"}
	case errNoDatabase:
		return &services.Error{Kind: services.Unavailable, Reason: ReasonNoSchema, Msg: "the server has not got the database yet", Err: err}
	case 0:
		return &services.Error{Kind: services.Unavailable, Reason: ReasonUnreachable, Msg: "the server is out of reach", Err: err}
	}
	return err
}

// lost says that a connection has broken.
func lost(err error) bool {
	var n net.Error
	return errors.Is(err, mysql.ErrInvalidConn) || errors.As(err, &n) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// untaken says that a transaction surely changed nothing where it was sent, so
// that it may go to the next primary, or once more to the same.
func untaken(err error) bool {
	switch services.ReasonOf(err) {
	case ReasonNotPrimary, ReasonNoPrimary, ReasonBusy, ReasonUnreachable:
		return true
	}
	return false
}

// elsewhere says that the server asked may not be the primary any more.
func elsewhere(err error) bool {
	switch services.ReasonOf(err) {
	case ReasonNotPrimary, ReasonUnreachable, ReasonUnknown, ReasonNoSchema:
		return true
	}
	return false
}
