// Package containers is the runtime on which every instance of a lab is a
// container, made through testcontainers-go on a Docker engine of this machine.
//
// Services, load balancers, DNS and appliances run "flix serve" from an image
// of nothing but flix's own static binary. The stores are the real ones:
// Cassandra, Kafka, memcached, MariaDB, OpenSearch and an S3 server. Beside
// each region's stores runs an agent, a "flix serve" too, with a sidecar for
// every store: it registers the store while that answers, and offers what the
// lab asks of an instance.
//
// Every container has an address of its own in a network of the lab, out of a
// block that belongs to its region, and listens on the ports that the lab gave
// the instance: so where an address is can be read off it, as on the embedded
// runtime. What the lab makes is journaled before it is made and labelled with
// the lab's folder; nothing else on the engine is ever touched.
package containers
