package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/flix-lab/flix/services"
)

const (
	// maxConns bounds the connections of one pool; further calls wait for one.
	maxConns  = 8
	idleConns = 2
	// idleTime is below the servers' wait_timeout by far.
	idleTime = time.Minute
	// silence is how long a server may say nothing while a call waits for it:
	// longer than it waits for a lock and for a replica together.
	silence = lockWait + semiSyncWait + 5*time.Second
	// lockWait is how long a transaction waits for a row lock.
	lockWait = 5 * time.Second
	// maxPacket bounds what is sent at once, in bytes; the servers take 16 MiB.
	maxPacket = 8 << 20
)

// target is a server and the account to use there.
type target struct {
	// addr is asked for each new connection.
	addr                     func(context.Context) (string, error)
	dial                     services.DialFunc
	user, password, database string
	// timeout bounds the making of a connection, up to the server's welcome.
	timeout time.Duration
	// settings of each session besides the adapter's own.
	settings map[string]string
	log      *slog.Logger
}

// open makes a pool of connections. It opens none.
func (t target) open() (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.User, c.Passwd, c.DBName = "tcp", t.user, t.password, t.database
	c.ReadTimeout, c.WriteTimeout = silence, silence
	c.MaxAllowedPacket = maxPacket
	// A transaction travels as one packet: see batch.
	c.MultiStatements, c.InterpolateParams = true, true
	c.Logger = driverLog{t.log}
	c.DialFunc = t.dial
	if c.DialFunc == nil {
		c.DialFunc = (&net.Dialer{}).DialContext
	}
	c.Params = map[string]string{
		"tx_isolation": "'READ-COMMITTED'",
		"sql_mode":     "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
		"time_zone":    "'+00:00'", "innodb_lock_wait_timeout": fmt.Sprint(int(lockWait / time.Second)),
	}
	for k, v := range t.settings {
		c.Params[k] = v
	}
	err := c.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) error {
		var err error
		c.Addr, err = t.addr(ctx)
		return err
	}))
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(bounded{connector, t.timeout})
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(idleConns)
	db.SetConnMaxIdleTime(idleTime)
	return db, nil
}

// bounded makes connections within a time: the driver bounds the dialling only,
// and a server that hangs is dialled well.
type bounded struct {
	driver.Connector
	timeout time.Duration
}

// Connect implements driver.Connector.
func (b bounded) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.Connector.Connect(ctx)
}

// driverLog is where the driver says what it also returns as errors.
type driverLog struct{ log *slog.Logger }

// Print implements mysql.Logger.
func (l driverLog) Print(v ...any) { l.log.Debug("mysql driver", "says", fmt.Sprint(v...)) }

// fixed is the address of a node that is looked up by its region.
func fixed(nodes func() map[string]string, region string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		addr := nodes()[region]
		if addr == "" {
			return "", services.Errorf(services.Unavailable, "the server of %s has no address yet", region)
		}
		return addr, nil
	}
}
