package wire

// AnswerHead is the head of an answer, for who has no Pool.
type AnswerHead struct {
	// Line is the status line without the version, e.g. "200 OK".
	Line   string
	Status int
	// Fields concern both ends, as in Response.
	Fields Fields
	// Length is that of the body; -1 if it is not known.
	Length int64
	// Ends says that the server ends its connection with the answer.
	Ends bool
}

// Parse reads a whole head, blank line included.
func (a *AnswerHead) Parse(s string) error {
	a.Clear()
	h := head{fields: &a.Fields}
	line, status, err := h.parseAnswer(s)
	if err != nil {
		return err
	}
	a.Line, a.Status, a.Length, a.Ends = line[len("HTTP/1.1 "):], status, h.length, !h.stays(line)
	return nil
}

// Clear lets go of an answer's strings and keeps the room for another's.
func (a *AnswerHead) Clear() {
	a.Fields.Reset()
	*a = AnswerHead{Fields: a.Fields}
}

// parseAnswer reads the head of an answer, and returns its status line.
func (h *head) parseAnswer(s string) (line string, status int, err error) {
	line, rest, err := cutLine(s)
	if err != nil {
		return "", 0, err
	}
	if len(line) < 12 || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return "", 0, bad("%.40q is not a status line", line)
	}
	n, ok := digits(line[9:12])
	if !ok || n < 100 || !all(line[12:], isText) {
		return "", 0, bad("%.40q is not a status line", line)
	}
	return line, int(n), h.parse(rest)
}

// stays says that the connection can carry more after the answer of a status line.
func (h *head) stays(line string) bool { return !h.closing && (line[7] == '1' || h.keep) }
