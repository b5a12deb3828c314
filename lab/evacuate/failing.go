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
	// looks are what the latest ones counted, for oftenWindow, and fresh what came
	// since the latest.
	looks []tally
	fresh tally
	// again says that it was over at the latest look: what is found next is new.
	again bool
}

// tally is what one look counted, after some seconds; began says that a symptom did.
type tally struct {
	answered, failed, took float64
	began                  bool
}

const (
	// More than errorsSick of the answers, and leastFailed at least, are a
	// symptom. It is over after calmConclusions in a row from leastAnswers, or
	// more, of which no more than errorsWell fail, or when it was not found for long.
	errorsSick, errorsWell    = 0.1, 0.02
	leastFailed, leastAnswers = 3, 10
	calmConclusions           = 3
	// What fails time and again is a symptom also while it does not: when it was
	// found oftenTimes in oftenWindow seconds, with a calm between, and more than
	// errorsSick of all answers of that time failed. However many plays begin, a
	// region in which a quarter of them fail is sick; where more begin, the calm
	// between is only seen earlier.
	oftenTimes, oftenWindow = 3, 60.0
	// longestWait for that many answers, in seconds.
	longestWait = 10.0
)

// add counts what was answered since the latest look. Counts that went back are
// of a gateway that started anew: they say nothing of the time in between.
func (f *failing) add(answered, failed float64) {
	if answered >= 0 && failed >= 0 {
		f.answered, f.failed = f.answered+answered, f.failed+failed
		f.fresh.answered, f.fresh.failed = f.fresh.answered+answered, f.fresh.failed+failed
	}
}

// judge concludes what can be concluded after a look that took some seconds. Too
// few answers are looked at together with the next, for longest seconds at most.
func (f *failing) judge(took, longest float64) {
	f.waited, f.unseen = f.waited+took, f.unseen+took
	ill := f.text != ""
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
	over := f.calm >= calmConclusions || f.unseen >= longest
	if over {
		f.text = ""
	}
	f.fresh.took, f.fresh.began = took, f.shows && (!ill || f.again)
	f.again = over
	f.remember()
	if often := f.often(); f.text == "" && often != "" {
		f.text = often
	}
	if f.shows || f.answered >= leastAnswers || f.waited >= longest {
		f.answered, f.failed, f.waited = 0, 0, 0
	}
}

// remember keeps what the latest look counted, and forgets what is too old.
func (f *failing) remember() {
	f.looks, f.fresh = append(f.looks, f.fresh), tally{}
	sum, from := 0.0, len(f.looks)
	for from > 0 && sum < oftenWindow {
		from--
		sum += f.looks[from].took
	}
	f.looks = append(f.looks[:0], f.looks[from:]...)
}

// often is the symptom of what fails time and again, "" without.
func (f *failing) often() string {
	var sum tally
	times := 0
	for _, t := range f.looks {
		sum.answered, sum.failed = sum.answered+t.answered, sum.failed+t.failed
		if t.began {
			times++
		}
	}
	if times < oftenTimes || sum.failed <= errorsSick*sum.answered {
		return ""
	}
	return fmt.Sprintf("%.0f of %.0f %s failed within a minute, %d times anew", sum.failed, sum.answered, f.what, times)
}
