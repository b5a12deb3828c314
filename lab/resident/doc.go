// Package resident decides what memory a server keeps: it gives back what only the
// start needed, and lets a small heap grow before it is collected.
package resident
