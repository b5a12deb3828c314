package mariadb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestErrorKinds(t *testing.T) {
	my := func(n uint16) error { return fmt.Errorf("run: %w", &mysql.MySQLError{Number: n, Message: "m"}) }
	cases := []struct {
		err    error
		kind   services.Kind
		reason string
		again  bool // surely changed nothing
	}{
		{my(1062), services.Conflict, ReasonExists, false},
		{my(1644), services.Conflict, ReasonNoChange, false},
		{my(1290), services.Unavailable, ReasonNotPrimary, true},
		{my(1792), services.Unavailable, ReasonNotPrimary, true},
		{my(1213), services.Unavailable, ReasonBusy, true},
		{my(1205), services.Unavailable, ReasonBusy, true},
		{my(1053), services.Unavailable, ReasonUnknown, false},
		{my(1040), services.Exhausted, "", false},
		{my(1045), services.Denied, "", false},
		{my(1142), services.Denied, "", false},
		{my(1064), services.Invalid, "", false},
		{my(1406), services.Invalid, "", false},
		{my(1366), services.Invalid, "", false},
		{my(1146), services.Unavailable, ReasonNoSchema, false},
		{my(1), services.Internal, "", false},
		{driver.ErrBadConn, services.Unavailable, ReasonUnreachable, true},
		{mysql.ErrInvalidConn, services.Unavailable, ReasonUnknown, false},
		{context.DeadlineExceeded, services.Unavailable, ReasonUnknown, false},
		{services.Errorf(services.Invalid, "known"), services.Invalid, "", false},
		{errors.New("strange"), services.Internal, "", false},
	}
	for _, c := range cases {
		err := kinded(t.Context(), c.err)
		if services.KindOf(err) != c.kind || services.ReasonOf(err) != c.reason || untaken(err) != c.again {
			t.Errorf("%v: kind %s, reason %q, again %v; want %s, %q, %v", c.err, services.KindOf(err), services.ReasonOf(err), untaken(err), c.kind, c.reason, c.again)
		}
	}
	if err := kinded(t.Context(), nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

func TestCells(t *testing.T) {
	cases := []struct {
		typeName string
		in, want any
	}{
		{"VARCHAR", []byte("x"), "x"}, {"TEXT", []byte("x"), "x"}, {"DECIMAL", []byte("1.5"), "1.5"},
		{"INT", int64(1), int64(1)}, {"UNSIGNED BIGINT", uint64(7), int64(7)}, {"DOUBLE", 1.5, 1.5}, {"FLOAT", float32(1.5), 1.5}, {"NULL", nil, nil},
	}
	for _, c := range cases {
		if got, err := cell(c.typeName, c.in); err != nil || got != c.want {
			t.Errorf("%s %v: %v, %v", c.typeName, c.in, got, err)
		}
	}
	if b, err := cell("MEDIUMBLOB", []byte{0, 1}); err != nil || !slices.Equal(b.([]byte), []byte{0, 1}) {
		t.Errorf("a blob: %v, %v", b, err)
	}
	for _, v := range []any{uint64(1 << 63), time.Time{}} {
		if got, err := cell("X", v); err == nil {
			t.Errorf("%v was taken as %v", v, got)
		}
	}
}

func TestOptionsAreWhatTheAdapterNeeds(t *testing.T) {
	for _, p := range []Profile{Small, Durable} {
		o := Options(3, p)
		for _, want := range []string{"--server-id=3", "--read-only=ON", "--gtid-strict-mode=ON", "--log-slave-updates=ON", "--rpl-semi-sync-master-wait-point=AFTER_SYNC", "--expire-logs-days=0"} {
			if !slices.Contains(o, want) {
				t.Errorf("%s: %s is missing", p, want)
			}
		}
		names := map[string]bool{}
		for _, x := range o {
			name, _, ok := strings.Cut(x, "=")
			if names[name] || (!ok && !strings.HasPrefix(name, "--skip-")) {
				t.Errorf("%s: %s is there twice, or has no value", p, x)
			}
			names[name] = true
		}
	}
	if !slices.Contains(Options(1, Durable), "--sync-binlog=1") || !slices.Contains(Options(1, Small), "--sync-binlog=0") {
		t.Error("the profiles do not tell the disk apart")
	}
	for k, v := range Environment(Accounts{RootPassword: "r", Database: "d", User: "u", Password: "p", ReplicationUser: "ru", ReplicationPassword: "rp"}) {
		if v == "" {
			t.Errorf("%s is empty", k)
		}
	}
}

func quick() topology.Timing {
	t := topology.LabTiming()
	t.RPCTimeout = topology.Duration(100 * time.Millisecond)
	t.BreakerSleep = topology.Duration(10 * time.Millisecond)
	return t
}

// silent accepts connections and never says a word, as a server that hangs.
func silent(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				for _, c := range all {
					_ = c.Close()
				}
				return
			}
			all = append(all, c)
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// A client needs no server to be made, and its calls end.
func TestWithoutServer(t *testing.T) {
	for what, addr := range map[string]string{"nobody listens": addresstest.Refusing(t), "the server hangs": silent(t), "no address yet": ""} {
		t.Run(what, func(t *testing.T) {
			db, err := NewClient(Config{
				Local: func(context.Context) (string, error) {
					if addr == "" {
						return "", services.Errorf(services.Unavailable, "not yet")
					}
					return addr, nil
				},
				Nodes: func() map[string]string { return map[string]string{"us-east": addr} },
				User:  "flix", Password: "x", Database: "flix", Timing: quick(), Tel: telemetry.Discard(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			if _, err := db.Plans(t.Context()); services.KindOf(err) != services.Unavailable {
				t.Errorf("Plans: %v, want Unavailable", err)
			}
			err = db.PutPlan(t.Context(), sqldb.Plan{ID: "p"})
			if services.KindOf(err) != services.Unavailable || services.ReasonOf(err) != ReasonNoPrimary {
				t.Errorf("PutPlan: %v, want no primary", err)
			}
		})
	}
}

func TestNewClientAsksForWhatItNeeds(t *testing.T) {
	if _, err := NewClient(Config{}); services.KindOf(err) != services.Invalid {
		t.Errorf("NewClient of nothing: %v", err)
	}
	if _, err := NewKeeper(KeeperConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("NewKeeper of nothing: %v", err)
	}
}
