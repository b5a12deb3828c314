package evacuate

import "fmt"

// failing judges one kind of call by its answers: whether too many fail.
type failing struct {
	what string // fails
	// answered and failed are calls that nothing was concluded from yet, for
	// waited seconds.
	answered, failed, waited float64
	// text is the symptom, "" without; shows says that the latest look found it.
	text  string
	shows bool
	// calm conclusions since it was found, and for so many seconds it was not.
	calm   int
	unseen float64
}

const (
	// More than errorsSick of the answers, and leastFailed at least, are a
	// symptom. It is over after calmConclusions in a row from leastAnswers, or
	// more, of which no more than errorsWell fail, or when it was not found for long.
	errorsSick, errorsWell    = 0.1, 0.02
	leastFailed, leastAnswers = 3, 10
	calmConclusions           = 3
	// longestWait for that many answers, in seconds.
	longestWait = 10.0
)

// add counts what was answered since the latest look. Counts that went back are
// of a gateway that started anew: they say nothing of the time in between.
func (f *failing) add(answered, failed float64) {
	if answered >= 0 && failed >= 0 {
		f.answered, f.failed = f.answered+answered, f.failed+failed
	}
}

// judge concludes what can be concluded after a look that took some seconds. Too
// few answers are looked at together with the next, for longest seconds at most.
func (f *failing) judge(took, longest float64) {
	f.waited, f.unseen = f.waited+took, f.unseen+took
	f.shows = f.failed >= leastFailed && f.failed > errorsSick*f.answered
	switch {
	case f.shows:
		f.text = fmt.Sprintf("%.0f of %.0f %s fail", f.failed, f.answered, f.what)
		f.calm, f.unseen = 0, 0
	case f.answered >= leastAnswers && f.failed <= errorsWell*f.answered:
		f.calm++
	case f.answered >= leastAnswers:
		f.calm = 0
	}
	if f.calm >= calmConclusions || f.unseen >= longest {
		f.text = ""
	}
	if f.shows || f.answered >= leastAnswers || f.waited >= longest {
		f.answered, f.failed, f.waited = 0, 0, 0
	}
}
