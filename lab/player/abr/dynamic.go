package abr

// Dynamic follows the throughput rule while the buffer is thin and BOLA when
// it is comfortable, and changes over only where they agree well enough.
type Dynamic struct {
	still
	bola   *Bola
	rate   *Throughput
	byBola bool
}

// NewDynamic makes DYNAMIC for a buffer of at most bufferMS.
func NewDynamic(l Ladder, bufferMS float64, variant Variant) *Dynamic {
	return &Dynamic{bola: NewBola(l, bufferMS, variant), rate: NewThroughput(l)}
}

// Next implements Algorithm.
func (d *Dynamic) Next(v View) Choice {
	b, t := d.bola.Next(v), d.rate.Next(v)
	switch {
	case d.byBola && v.BufferMS < lowBufferMS && b.Rung < t.Rung:
		d.byBola = false
	case !d.byBola && v.BufferMS > lowBufferMS && b.Rung >= t.Rung:
		d.byBola = true
	}
	if d.byBola {
		return b
	}
	return t
}

// Progressed implements Algorithm: always by the throughput rule.
func (d *Dynamic) Progressed(v View, p Progress) (int, bool) { return d.rate.Progressed(v, p) }

// Done implements Algorithm.
func (d *Dynamic) Done(_ View, t Transfer) {
	if t.Replaces {
		d.byBola = false
	}
}

// Seek implements Algorithm.
func (d *Dynamic) Seek(segment int) { d.bola.Seek(segment) }
