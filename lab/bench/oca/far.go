package main

import "context"

const farClient = "far-client"

func farMain([]string) int { return 1 }
func (b *bench) far(context.Context) error { return nil }
