// Package embedded is the sqldb adapter on SQLite: one node per region behind
// sqldbpb.SQL, the client that makes it a sqldb.DB, and the client that
// administers it.
//
// One node is the primary. It runs every transaction that writes and keeps, in
// the same SQLite transaction, the statements as a numbered change set. The
// others follow: they stream change sets from the primary and run each exactly
// once, in order. So statements must mean the same everywhere: they take times
// and random values as arguments. Any node answers reads from its own copy;
// writes it hands on to the primary.
//
// Each promotion begins an epoch with a change set of its own. Two nodes whose
// change sets at some position agree have the same history up to it (as in
// Raft's log matching), which is how a primary that comes back after another
// was promoted finds the part of its history that nobody has: it moves it
// aside, counts it in sql_diverged_changesets, rebuilds its tables without it
// and follows the new primary.
//
// The log of change sets is kept whole: a node without data plays it from the
// start, and a rebuild needs nothing but it. At some 300 bytes per member a
// lab does not outgrow that; sql_changeset_bytes shows it.
//
// An acknowledged write survives the death of the process, not the loss of the
// machine: SQLite writes its log without waiting for the disk.
package embedded
