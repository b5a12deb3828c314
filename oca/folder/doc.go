// Package folder serves a folder of plain files as an appliance does, without
// a lab around it: wire's HTTP, signed URL prefixes, announced prefixes, CMCD.
//
// Nothing outside the folder is ever read: names are resolved by os.Root, which
// follows no link that leads out. A file may change while it is served: each
// answer is of one state of the file, with its own entity tag, and one that
// cannot be finished as announced ends its connection.
package folder
