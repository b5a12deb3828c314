package player

import (
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
)

// held is a segment in the buffer: fetched, checked, and not played to its end.
type held struct {
	index, rung int
	at, length  time.Duration // media time from where playback began
	// video and audio are kept for saving only: until a segment plays it may
	// be replaced by one of a better rung.
	video []byte
	audio [][]byte
}

// hold puts a segment behind those that are held.
func (s *session) hold(h held, sounds int) {
	now := s.now()
	h.at = s.book.at(now).end
	s.ahead = append(s.ahead, h)
	s.book.buffered(s.rungs[h.rung], h.length, sounds, now)
}

// release lets go of what has been played: it is booked, and saved.
func (s *session) release(clock playout) error {
	for len(s.ahead) > 0 && s.ahead[0].at+s.ahead[0].length <= clock.pos {
		h := s.ahead[0]
		s.ahead[0] = held{}
		s.ahead = s.ahead[1:]
		if err := s.played(h); err != nil {
			return err
		}
	}
	return nil
}

// played books a segment that was played, as far as it was, and saves it.
func (s *session) played(h held) error {
	s.book.played(s.rungs[h.rung], h.length)
	for _, b := range h.audio {
		if err := s.saver.segment(media.KindAudio, b); err != nil {
			return services.Wrap("save", err)
		}
	}
	if h.video == nil {
		return nil
	}
	return services.Wrap("save", s.saver.segment(media.KindVideo, h.video))
}

// drain lets go of everything that has begun to play, at the end of a play
// however it ended.
func (s *session) drain() error {
	clock := s.book.at(s.now())
	for _, h := range s.ahead {
		if h.at >= clock.pos {
			break
		}
		if err := s.played(h); err != nil {
			return err
		}
	}
	s.ahead = nil
	return nil
}
