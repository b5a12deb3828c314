// Package services holds what every service of the lab shares: typed
// identifiers, the kinds of error and the life cycle of a role.
//
// It imports only topology and the standard library, so that every role and
// every shared package below it can import it. Roles never import one another:
// they meet over the wire, through the generated packages (*pb).
package services
