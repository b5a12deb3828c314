// Package opensearch is the search adapter on OpenSearch 2: a search.Index
// over its REST API, one cluster per region.
//
// A document that was put is found by the next search. The index is made by
// the first Put that misses it, and made again when it is lost with its disk;
// until then searches find nothing. A search is answered in full or not at
// all, never from part of the index. What is indexed can always be made again
// from the titles in SQL, so nothing is replicated.
//
// The client never lets OpenSearch guess: an index is not created by the way,
// fields are not added by documents, and no text of a query is read as syntax.
package opensearch
