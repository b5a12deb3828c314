// Package web is the lab in a browser: sign in, find something, watch it in a
// stock player, and see on a map which appliance serves whom while things break.
//
// The page goes the way of any viewer. What it asks of the public API passes
// through here unread, to DNS, balancer and gateway, as a client of the lab;
// manifests and steering orders among it. The video itself it fetches from the
// appliances' plain doors, not from here. Only the map and the log are the
// operator's: they come from the daemon, and they only tell.
//
// It serves loopback addresses, to pages of its own: Host and Origin are
// checked, so that neither another site nor a name that was bent to point here
// reaches the lab through a browser.
package web
