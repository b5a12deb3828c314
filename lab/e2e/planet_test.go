package e2e_test

import "testing"

// TestPlanet runs, on one lab of three regions, the scenarios that leave it as
// they found it. They run in order: the evacuation comes last.
func TestPlanet(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := prepare(t, rt)
			for _, s := range []struct {
				name string
				run  func(*lab)
			}{
				{"up", upMakesThreeRegions},
				{"up again", secondUpChangesNothing},
				{"status", statusNamesEverything},
				{"memory", memoryIsSumOfPSS},
				{"ports", everyPortAnswers},
				{"ls", lsShowsTheLab},
				{"play", playFromEveryRegion},
				{"save", savedFileDecodes},
				{"bandwidth", bandwidthDecidesTheRung},
				{"refused plays", refusedPlays},
				{"one play on the wire", onePlayOnTheWire},
				{"manifests conform", servedManifestsConform},
				{"dns", dnsAnswersByPlace},
				{"registry", registrySpeaksEureka},
				{"s3", s3RefusesAnonymous},
				{"fill status", fillCostsTheOriginOnce},
				{"deleted file", deletedFileComesFromAPeer},
				{"flipped byte", flippedByteIsNoticed},
				{"title add without ffmpeg", titleAddNeedsFFmpeg},
				{"title add", titleAddPlays},
				{"title with a date", titleWaitsForItsDate},
				{"failover refused", failoverRefusals},
				{"failover dry run", failoverDryRun},
				{"failover", failoverUnderPlayers},
				{"failback", failbackReturnsTraffic},
			} {
				t.Run(s.name, func(t *testing.T) { s.run(l.on(t)) })
				if t.Failed() && s.name == "up" {
					return
				}
			}
		})
	}
}
