// Package resident gives back memory that only a program's start needed.
package resident
