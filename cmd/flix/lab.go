package main

import (
	"github.com/spf13/cobra"
)

func newLabCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "lab", Short: "Bring a lab up, look at it, take it down"}
	c.AddCommand(newUpCmd(a), newDownCmd(a), newStatusCmd(a), newLsCmd(a), newLogsCmd(a), newPortsCmd(a), newDoctorCmd(a), newTopologyCmd(a), newWANCmd(a), newCheckCmd(a), newExecCmd(a), newDiffCmd(a), newSnapshotCmd(a),
		newInstanceCmd(a, "stop", "Stop an instance, or all, in order, until they are started"),
		newInstanceCmd(a, "start", "Start an instance that is down, or a lab that was stopped"),
		newInstanceCmd(a, "kill", "Kill an instance: sockets reset, memory lost, disk kept"))
	return c
}
