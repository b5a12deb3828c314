// Package oca is the Open Connect appliance: it stores titles, serves them to
// clients over TLS (to browsers on this machine without it) and to other appliances
// inside the lab, and fills itself by the orders of cache control.
//
// It promises that bytes leave it only under the checksum they were published
// with, as far as it has looked: a file is verified before it can be read,
// again in the background, and at once when somebody doubts it; a damaged one
// is set aside and reported. Whatever moment the process is killed at, what it
// reported stored is still there when it returns. It holds only files it was
// ordered to hold: it never fetches because a client asked.
package oca
