// Package topology declares the planet that a lab builds: regions with zones,
// ISPs, exchanges, Open Connect sites and appliances, the links between them
// and every interval the system runs by.
//
// It holds pure values. It parses and validates a declaration (YAML), expands
// presets and compiles both to the list of instances a runtime starts. It
// never opens a socket, starts a process or reads the clock.
package topology
