package cachecontrol

import (
	"encoding/binary"
	"hash/fnv"
)

// Rendezvous (highest random weight) hashing, after Thaler and Ravishankar
// (1998): every cache control computes the same order of appliances for a
// content without talking to the others, and the loss of one appliance moves
// only the contents it was first for.

// hashID is an appliance's half of the score.
func hashID(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	return mix(h.Sum64())
}

// score ranks an appliance for a content; the highest wins.
func score(sum checksum, id uint64) uint64 {
	return mix(binary.LittleEndian.Uint64(sum[:8]) ^ id)
}

// mix is the finaliser of SplitMix64: every input bit reaches every output bit.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
