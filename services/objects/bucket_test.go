package objects

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

func TestListing(t *testing.T) {
	r := newRig(t)
	for _, k := range []string{"a", "b/1", "b/2", "b/c/3", "b0", "c/1", "ü"} {
		r.put(k, []byte(k))
	}
	mc := r.minio(testSecret, false)
	for _, tc := range []struct {
		prefix    string
		recursive bool
		max       int
		want      string
	}{
		{"", true, 0, "a b/1 b/2 b/c/3 b0 c/1 ü"},
		{"", true, 2, "a b/1 b/2 b/c/3 b0 c/1 ü"},
		{"", false, 0, "a b/ b0 c/ ü"},
		{"", false, 1, "a b/ b0 c/ ü"},
		{"b/", false, 0, "b/1 b/2 b/c/"},
		{"b", true, 1, "b/1 b/2 b/c/3 b0"},
		{"zz", true, 0, ""},
	} {
		for _, v1 := range []bool{false, true} {
			var got []string
			for o := range mc.ListObjects(t.Context(), BucketMedia, minio.ListObjectsOptions{Prefix: tc.prefix, Recursive: tc.recursive, MaxKeys: tc.max, UseV1: v1}) {
				if o.Err != nil {
					t.Fatal(o.Err)
				}
				got = append(got, o.Key)
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("prefix %q recursive %v max %d v1 %v: %q, want %q", tc.prefix, tc.recursive, tc.max, v1, s, tc.want)
			}
		}
	}
	infos, err := r.client.List(t.Context(), BucketMedia, "b/")
	if err != nil || len(infos) != 3 || infos[0].Size != 3 {
		t.Errorf("List = %+v, %v", infos, err)
	}
}

func TestBuckets(t *testing.T) {
	r := newRig(t)
	mc, ctx := r.minio(testSecret, false), t.Context()
	if err := mc.MakeBucket(ctx, "originals", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	bs, err := mc.ListBuckets(ctx)
	if err != nil || len(bs) != 2 || bs[0].Name != "media" || bs[1].Name != "originals" {
		t.Errorf("ListBuckets = %v, %v", bs, err)
	}
	if ok, err := mc.BucketExists(ctx, "nothing"); ok || err != nil {
		t.Errorf("BucketExists = %v, %v", ok, err)
	}
	r.put("k", []byte("x"))
	if err := mc.RemoveBucket(ctx, "media"); minio.ToErrorResponse(err).Code != "BucketNotEmpty" {
		t.Errorf("removing a full bucket: %v", err)
	}
	for e := range mc.RemoveObjects(ctx, "media", objectsOf("k", "none"), minio.RemoveObjectsOptions{}) {
		t.Error(e.Err)
	}
	if err := mc.RemoveBucket(ctx, "media"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A-b", "ab", "-abc", "a_b"} {
		r.expect(call{method: "PUT", path: "/" + name}, 400, "InvalidBucketName")
	}
}

func objectsOf(keys ...string) <-chan minio.ObjectInfo {
	ch := make(chan minio.ObjectInfo, len(keys))
	for _, k := range keys {
		ch <- minio.ObjectInfo{Key: k}
	}
	close(ch)
	return ch
}

func TestCopyKeepsMetadata(t *testing.T) {
	r := newRig(t)
	mc, ctx := r.minio(testSecret, false), t.Context()
	_, err := mc.PutObject(ctx, BucketMedia, "src", strings.NewReader("data"), 4, minio.PutObjectOptions{ContentType: "text/x", CacheControl: "no-store", UserMetadata: map[string]string{"Note": "kept"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mc.CopyObject(ctx, minio.CopyDestOptions{Bucket: BucketMedia, Object: "dst"}, minio.CopySrcOptions{Bucket: BucketMedia, Object: "src"}); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.start()
	o, err := mc.StatObject(ctx, BucketMedia, "dst", minio.StatObjectOptions{})
	if err != nil || o.ContentType != "text/x" || o.UserMetadata["Note"] != "kept" || o.Metadata.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestMultipartByHand(t *testing.T) {
	r := newRig(t)
	core, ctx := minio.Core{Client: r.minio(testSecret, false)}, t.Context()
	id, err := core.NewMultipartUpload(ctx, BucketMedia, "m", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(n int, data []byte) minio.CompletePart {
		t.Helper()
		p, err := core.PutObjectPart(ctx, BucketMedia, "m", id, n, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return minio.CompletePart{PartNumber: n, ETag: p.ETag}
	}
	big, small := noise(minPartSize, 1), []byte("end")
	_, two := put(1, big), put(2, small)
	one := put(1, big) // sent again: it replaces the first
	parts, err := core.ListObjectParts(ctx, BucketMedia, "m", id, 0, 1)
	if err != nil || len(parts.ObjectParts) != 1 || !parts.IsTruncated || parts.NextPartNumberMarker != 1 {
		t.Errorf("ListParts = %+v, %v", parts, err)
	}
	complete := func(ps ...minio.CompletePart) string {
		_, err := core.CompleteMultipartUpload(ctx, BucketMedia, "m", id, ps, minio.PutObjectOptions{})
		return minio.ToErrorResponse(err).Code
	}
	three := put(3, small)
	for _, tc := range []struct {
		parts []minio.CompletePart
		code  string
	}{
		{[]minio.CompletePart{two, three}, "EntityTooSmall"},
		{[]minio.CompletePart{{PartNumber: 1, ETag: two.ETag}}, "InvalidPart"},
		{[]minio.CompletePart{{PartNumber: 9, ETag: two.ETag}}, "InvalidPart"},
		{[]minio.CompletePart{one, two}, ""},
		{[]minio.CompletePart{one, two}, "NoSuchUpload"},
	} {
		if code := complete(tc.parts...); code != tc.code {
			t.Errorf("completing %v: %q, want %q", tc.parts, code, tc.code)
		}
	}
	if got := r.get("m", 0, 0); !bytes.Equal(got, append(big, small...)) {
		t.Error("the parts were joined wrongly")
	}
	id, err = core.NewMultipartUpload(ctx, BucketMedia, "m", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put(1, small)
	if err := core.AbortMultipartUpload(ctx, BucketMedia, "m", id); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, uploadsDir)); len(left) != 0 {
		t.Errorf("%d uploads left behind", len(left))
	}
}
