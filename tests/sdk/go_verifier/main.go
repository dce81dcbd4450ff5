// Verifies a log written by Facekeep with the packages that Go's own module downloader trusts: sumdb/note and sumdb/tlog.
// Input: a directory with vkeys (one a line: the log's, then witnesses'), a log directory, and lines of proofs.
package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// cosigner verifies cosignature/v1 (c2sp.org/tlog-cosignature), which sumdb/note leaves to its user.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	text := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(text), sig[8:])
}

func verifierOf(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a vkey")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 {
		return nil, errors.New("bad key")
	}
	if raw[0] != 4 {
		return note.NewVerifier(vkey)
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	return cosigner{parts[0], uint32(hash), raw[1:]}, err
}

// files reads tiles in the paths of c2sp.org/tlog-tiles: those of sumdb without the height.
type files struct{ dir string }

func (f files) Height() int { return 8 }
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(f.dir, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}
func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

func check(err error) {
	if err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
}

func hashes(words []string) (out []tlog.Hash) {
	for _, word := range words {
		raw, err := hex.DecodeString(word)
		check(err)
		var h tlog.Hash
		copy(h[:], raw)
		out = append(out, h)
	}
	return
}

func main() {
	dir := os.Args[1]
	keys, err := os.ReadFile(filepath.Join(dir, "vkeys"))
	check(err)
	var verifiers []note.Verifier
	for _, vkey := range strings.Fields(string(keys)) {
		v, err := verifierOf(vkey)
		check(err)
		verifiers = append(verifiers, v)
	}
	msg, err := os.ReadFile(filepath.Join(dir, "log/checkpoint"))
	check(err)
	n, err := note.Open(msg, note.VerifierList(verifiers...))
	check(err)
	if len(n.Sigs) != len(verifiers) || len(n.UnverifiedSigs) != 0 {
		check(errors.New("not every signature verified"))
	}
	lines := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, files{filepath.Join(dir, "log")})
	_, err = tlog.TreeHash(size, reader)
	check(err)

	proofs, err := os.Open(filepath.Join(dir, "proofs"))
	check(err)
	scanner := bufio.NewScanner(proofs)
	scanner.Buffer(nil, 1<<20)
	count := 0
	for scanner.Scan() {
		words := strings.Fields(scanner.Text())
		first, err := strconv.ParseInt(words[1], 10, 64)
		check(err)
		data, err := hex.DecodeString(words[2])
		check(err)
		rest := hashes(words[3:])
		switch words[0] {
		case "inclusion": // index, entry, path
			check(tlog.CheckRecord(rest, size, root, first, tlog.RecordHash(data)))
			// What Go would prove from the same tiles.
			own, err := tlog.ProveRecord(size, first, reader)
			check(err)
			if fmt.Sprint(own) != fmt.Sprint(tlog.RecordProof(rest)) {
				check(errors.New("another inclusion proof"))
			}
		case "consistency": // old size, old root, path
			check(tlog.CheckTree(rest, size, root, first, hashes(words[2:3])[0]))
			own, err := tlog.ProveTree(size, first, reader)
			check(err)
			if fmt.Sprint(own) != fmt.Sprint(tlog.TreeProof(rest)) {
				check(errors.New("another consistency proof"))
			}
		}
		count++
	}
	fmt.Printf("OK %d signatures %d proofs %d entries\n", len(n.Sigs), count, size)
}
