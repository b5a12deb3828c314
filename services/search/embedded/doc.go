// Package embedded is the search adapter on bleve: one server per region
// behind searchpb.Search, and the client that makes it a search.Index.
//
// The index lies on disk. A document that was put is found by the next search
// and survives the death of the process. What is indexed can always be made
// again from the titles in SQL; an index that was not finished when its
// process died is started anew.
package embedded
