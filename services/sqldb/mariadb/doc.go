// Package mariadb is the sqldb adapter on MariaDB: one server per region, the
// client that makes the servers a sqldb.DB, and the Keeper that stands beside
// each server.
//
// One server is the primary, the others follow it by global transaction id
// with semi-synchronous replication. Clients read from their own region's
// server and send a transaction to the primary as one packet, so that it costs
// one round trip of the WAN and holds no lock while it travels. They find the
// primary by asking the servers: it is the one that takes writes and knows of
// the newest promotion. A server starts read-only and stays so until its Keeper
// knows that no other was promoted.
//
// Each promotion is a row of flix_keeper.promotions, the first transaction of
// an epoch, and replicates as any other; the highest epoch that anybody knows
// of names the primary. A Keeper points its server at that one, or takes it out
// of service as a primary when it is no longer named. A server with
// transactions that the primary has not is never let in: the Keeper reports it
// and, when it may, sets the tables aside and has the server play the whole log
// again, which every server keeps from the first transaction on.
//
// # Isolation
//
// Transactions run at READ COMMITTED. The statements of package sqldb decide by
// unique keys and not by ranges, so they need no gap locks, which at the higher
// levels made concurrent creations deadlock. What the level lets through is
// this: a row committed after a statement began is not seen by its NOT EXISTS
// and met by its INSERT. So a transaction that breaks a unique key is run again
// before that is believed; then it sees the row. Reads of several statements
// are one snapshot.
//
// # Text
//
// Tables are utf8mb4 with utf8mb4_nopad_bin: text compares and sorts byte by
// byte, with case, accents and trailing spaces, as in SQLite. The SQL mode is
// strict: a value that does not fit fails with services.Invalid. Times are
// integers, and sessions are in UTC.
//
// # Acknowledgement
//
// A transaction with Confirm is acknowledged when a replica has it in its relay
// log and before anybody can read it (AFTER_SYNC). When the wait times out
// MariaDB commits without a word, so the client reads the counters of
// semi-synchronous replication in the same packet, before and after the
// commit, and fails with services.Unavailable and ReasonUnconfirmed unless they
// show that every commit in between was confirmed. As the port says, a primary
// that no replica is connected to acknowledges alone; that is counted.
//
// A connection that is lost after a transaction was sent leaves its outcome
// open: the client fails with services.Unavailable and ReasonUnknown and does
// not repeat it. The callers may: every write of package sqldb is decided by a
// key and changes nothing the second time.
//
// An acknowledged write survives the death of the primary's process or region.
// Servers of the small profile write their logs without waiting for the disk:
// there a loss of the machine may lose what replicas on the same machine lose
// too.
package mariadb
