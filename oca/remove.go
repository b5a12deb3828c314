package oca

import (
	"errors"
	"fmt"
	"io/fs"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// remove takes names away, and the bytes that have none left. It returns the
// files that were stored.
func (s *store) remove(refs []ref, reason string) ([]*pb.HeldFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeLocked(refs, reason, s.dispose)
}

// dispose deletes an object's bytes.
func (s *store) dispose(digest sum) error {
	err := s.root.Remove(digest.objectPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *store) removeLocked(refs []ref, reason string, dispose func(sum) error) ([]*pb.HeldFile, error) {
	var gone []*pb.HeldFile
	var records []record
	var bare []sum
	for _, r := range refs {
		e, ok := s.files[r]
		if !ok {
			continue
		}
		gone = append(gone, r.held(e.size))
		records = append(records, delRecord(r))
		delete(s.files, r)
		s.letGo(r)
		s.count(r, -1)
		o := s.objects[e.sum]
		delete(o.refs, r)
		if len(o.refs) == 0 {
			delete(s.objects, e.sum)
			s.used -= o.size
			bare = append(bare, e.sum)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	err := s.append(records...)
	for _, digest := range bare {
		err = errors.Join(err, dispose(digest))
	}
	s.onChange(change{removed: gone, reason: reason, filled: s.filled.load()})
	return gone, err
}

// quarantine sets an object aside and takes away all its names.
func (s *store) quarantine(digest sum) ([]*pb.HeldFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[digest]
	if o == nil {
		return nil, nil
	}
	refs := make([]ref, 0, len(o.refs))
	for r := range o.refs {
		refs = append(refs, r)
		s.spoil(r)
	}
	return s.removeLocked(refs, reasonDamaged, func(digest sum) error {
		s.temps++
		name := fmt.Sprintf("%s/%016x-%04d-%s", quarantineDir, s.epoch, s.temps, digest)
		return errors.Join(s.root.Rename(digest.objectPath(), name), s.trimQuarantine())
	})
}

func (s *store) trimQuarantine() error {
	entries, err := fs.ReadDir(s.root.FS(), quarantineDir)
	if err != nil {
		return err
	}
	for i := 0; i < len(entries)-maxQuarantine; i++ { // names sort by age
		err = errors.Join(err, s.root.Remove(quarantineDir+"/"+entries[i].Name()))
	}
	return err
}
