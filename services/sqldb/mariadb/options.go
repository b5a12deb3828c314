package mariadb

import (
	"fmt"
	"strconv"
	"time"
)

// semiSyncWait is how long a commit waits for a replica before it goes on
// without: long enough for any WAN, and for a replica that stumbles.
const semiSyncWait = 5 * time.Second

// Profile is how much of the machine a server takes.
type Profile string

const (
	// Small is for many servers on one machine: 32 MiB for pages, and logs that
	// the page cache keeps, which a killed process does not take with it.
	Small Profile = "small"
	// Durable waits for the disk at every commit, and takes 256 MiB for pages.
	Durable Profile = "durable"
)

// Options returns the options of a region's server, to follow the image's
// name. The id is the region's alone, from 1 up, and stays the same for the
// life of its data directory. All servers get the same otherwise: none is a
// primary before its Keeper says so.
func Options(serverID int, p Profile) []string {
	o := []string{
		"--server-id=" + strconv.Itoa(serverID),
		// Whoever may become primary has the log of all, from the start: a server
		// without data plays it, and a promotion finds its followers' place in it.
		"--log-bin=binlog", "--log-slave-updates=ON", "--binlog-format=ROW", "--gtid-strict-mode=ON", "--expire-logs-days=0",
		"--read-only=ON", "--skip-slave-start=ON",
		"--rpl-semi-sync-master-wait-point=AFTER_SYNC",
		"--rpl-semi-sync-master-timeout=" + strconv.FormatInt(semiSyncWait.Milliseconds(), 10),
		// A primary without replicas does not wait for them: see Confirm.
		"--rpl-semi-sync-master-wait-no-slave=OFF",
		// Recovery must keep what is in the log of a primary that was killed: a
		// server that starts as a semi-synchronous replica cuts it off, though a
		// replica may have confirmed it. The Keeper turns this on later.
		"--rpl-semi-sync-slave-enabled=OFF", "--rpl-semi-sync-master-enabled=OFF",
		// A half-open connection to the primary shows in seconds.
		"--slave-net-timeout=4",
		// A replica that stops following tells the primary so, and waits this long
		// for one that is gone, in seconds: it is part of each promotion after a loss.
		"--rpl-semi-sync-slave-kill-conn-timeout=1",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_nopad_bin",
		"--transaction-isolation=READ-COMMITTED", "--default-time-zone=+00:00",
		"--skip-name-resolve", "--max-allowed-packet=16M", "--max-connections=300",
		"--performance-schema=OFF",
	}
	pages, sync := 256, 1
	if p == Small {
		pages, sync = 32, 0
		o = append(o, "--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=16M", "--innodb-log-buffer-size=2M",
			"--innodb-buffer-pool-dump-at-shutdown=OFF", "--innodb-buffer-pool-load-at-startup=OFF",
			"--innodb-temp-data-file-path=ibtmp1:1M:autoextend", "--key-buffer-size=1M", "--aria-pagecache-buffer-size=2M",
			"--table-open-cache=200", "--thread-cache-size=8")
	}
	return append(o, fmt.Sprintf("--innodb-buffer-pool-size=%dM", pages), fmt.Sprintf("--sync-binlog=%d", sync))
}

// Accounts of a lab's servers, the same on all of them: each makes its own when
// it makes its data directory.
type Accounts struct {
	// RootPassword is the Keepers'.
	RootPassword string
	// Database of the lab, and the account that its services use there.
	Database, User, Password string
	// ReplicationUser and ReplicationPassword are what servers follow one
	// another with.
	ReplicationUser, ReplicationPassword string
}

// Environment returns what the image's entrypoint makes the accounts of.
func Environment(a Accounts) map[string]string {
	return map[string]string{
		"MARIADB_ROOT_PASSWORD": a.RootPassword,
		"MARIADB_DATABASE":      a.Database, "MARIADB_USER": a.User, "MARIADB_PASSWORD": a.Password,
		"MARIADB_REPLICATION_USER": a.ReplicationUser, "MARIADB_REPLICATION_PASSWORD": a.ReplicationPassword,
		// Time zones by name are half of the first start, and nobody uses one.
		"MARIADB_INITDB_SKIP_TZINFO": "1",
	}
}
