// Package cassandra is the kv adapter on Apache Cassandra 5: a kv.Store over
// the native protocol, with one datacentre per region in one cluster.
//
// All namespaces are in one table: namespace and partition are its partition
// key, the sort key is its clustering key. A change of the schema costs each
// node of a young cluster a good part of a second, so it is one table that takes
// them all, and a new namespace changes none. A client talks to the nodes of its
// own region only, never to another region's in their place: a region that has
// lost its nodes answers services.Unavailable and is evacuated, it does not turn
// slow.
//
// Conflicts are resolved by the later time of the cell. Clients stamp what they
// write with a hybrid clock (see clock), so a write may be sent twice, or late,
// without harm, and a client's write wins over everything that it has read or
// written before. Of two writes of one microsecond the greater value wins.
// A conditional write is a lightweight transaction among the region's replicas
// and gets its time from them; PutIf says how the two times are kept in order.
//
// What a region writes reaches the others over the cluster's own connections;
// for a region that is away it is kept as hints, for three hours unless the
// nodes are configured otherwise. After a longer absence, or when a region is
// new, its nodes have to be given what they lack: see AlterReplication.
//
// Migrate makes the keyspace and its table. Ping and ReadState look at a node
// without a session.
package cassandra
