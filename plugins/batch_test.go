package plugins

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the bytes of the golden batches anew")

const goldenBatches = "../sdk/testdata/batches.txt"

// TestGoldenBatches builds each batch of the shared vectors and compares its
// bytes, and checks that the slots say what the vector's author wrote.
func TestGoldenBatches(t *testing.T) {
	text, err := os.ReadFile(goldenBatches)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var b Batch
	name, wants, event, batches := "", []string(nil), -1, 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || f[0] == "#" {
			fmt.Fprintln(&out, lines.Text())
			continue
		}
		switch f[0] {
		case "batch":
			slots, _ := strconv.Atoi(f[2])
			name, wants, event = f[1], nil, -1
			b.Reset(slots)
		case "event":
			b.Event()
			event++
		case "slot":
			putGolden(t, &b, f)
			wants = append(wants, strings.Join(f[4:], " "))
		case "bytes":
			batches++
			if err := b.Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got := b.Bytes()
			if n := b.Size(); n != len(got) {
				t.Errorf("%s: Size %d, %d bytes", name, n, len(got))
			}
			for i, want := range wants {
				if s := describeSlot(got, i); s != want {
					t.Errorf("%s: slot %d is %q, want %q", name, i, s, want)
				}
			}
			h := hex.EncodeToString(got)
			if !*update && (len(f) != 2 || f[1] != h) {
				t.Errorf("%s: bytes\n got %s\nwant %s", name, h, strings.Join(f[1:], ""))
			}
			fmt.Fprintln(&out, "bytes", h)
			continue
		default:
			t.Fatalf("unknown line %q", lines.Text())
		}
		fmt.Fprintln(&out, lines.Text())
	}
	if batches < 5 {
		t.Fatalf("only %d golden batches", batches)
	}
	if *update {
		if err := os.WriteFile(goldenBatches, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func putGolden(t *testing.T, b *Batch, f []string) {
	t.Helper()
	arg := []byte(f[2])
	if f[1] == "string" || f[1] == "escaped" || f[1] == "json" {
		raw, err := hex.DecodeString(strings.TrimPrefix(f[2], "-"))
		if err != nil {
			t.Fatal(err)
		}
		arg = raw
	}
	switch f[1] {
	case "absent":
		b.Absent()
	case "string", "escaped":
		b.String(arg, f[1] == "escaped")
	case "number":
		b.Number(arg)
	case "bool":
		b.Bool(f[2] == "true")
	case "null":
		b.Null()
	case "json":
		b.JSON(arg)
	default:
		t.Fatalf("unknown value %q", f[1])
	}
}

// describeSlot reads the i-th slot of a batch as the vectors write it: a
// second reading of the layout, which shares nothing with Batch.
func describeSlot(batch []byte, i int) string {
	le := binary.LittleEndian
	count, slots := int(le.Uint32(batch[4:])), int(le.Uint16(batch[8:]))
	if string(batch[:4]) != "WRB1" || le.Uint16(batch[10:]) != 0 || int(le.Uint32(batch[12:])) != len(batch) {
		return "bad header"
	}
	data := batch[16+count*slots*8:]
	offset, meta := le.Uint32(batch[16+i*8:]), le.Uint32(batch[20+i*8:])
	length, kind, flags := meta&0xffffff, meta>>24&15, meta>>28
	part := data[offset : offset+length]
	switch kind {
	case 0:
		return "absent"
	case 1:
		return fmt.Sprintf("string %d %s", flags, orDash(hex.EncodeToString(part)))
	case 2:
		return fmt.Sprintf("i64 %d", int64(le.Uint64(part)))
	case 3:
		return fmt.Sprintf("f64 %016x", le.Uint64(part))
	case 4:
		return fmt.Sprintf("bool %v", flags == 1)
	case 5:
		return "json " + orDash(hex.EncodeToString(part))
	case 6:
		return "null"
	}
	return fmt.Sprintf("type %d", kind)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// exact says by big arithmetic which type a number must get.
func exact(text string) (SlotType, uint64) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		return SlotInt, uint64(n)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return SlotJSON, 0
	}
	a, ok1 := new(big.Rat).SetString(text)
	b, ok2 := new(big.Rat).SetString(strconv.FormatFloat(f, 'e', -1, 64))
	if !ok1 || !ok2 || a.Cmp(b) != 0 {
		return SlotJSON, 0
	}
	return SlotFloat, math.Float64bits(f)
}

func checkNumber(t interface{ Fatalf(string, ...any) }, text string) {
	var b Batch
	b.Reset(1)
	b.Event()
	b.Number([]byte(text))
	batch := b.Bytes()
	wantType, wantBits := exact(text)
	gotType := SlotType(batch[16+7] & 15)
	if gotType != wantType {
		t.Fatalf("%s: type %d, want %d", text, gotType, wantType)
	}
	if wantType != SlotJSON {
		if got := binary.LittleEndian.Uint64(batch[24:]); got != wantBits {
			t.Fatalf("%s: %#x, want %#x", text, got, wantBits)
		}
	} else if string(batch[24:]) != text {
		t.Fatalf("%s: text %q", text, batch[24:])
	}
}

func TestNumberAgainstBigArithmetic(t *testing.T) {
	for _, text := range []string{
		"0", "-0", "-0.0", "0e99", "1", "-1", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "1.5", "1.50", "0.1", "1e3", "1E+3", "1e-3", "1e22", "1e23",
		"1e400", "-1e400", "1e-400", "4.9e-324", "5e-324", "3e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "123456789012345678",
		"1234567890123456789012", "0.30000000000000004", "0.300000000000000041", "100000000000000000000", "1000000000000000000000000",
		"0.000001", "9007199254740993.0", "9007199254740992.0", "12345678901234567.8", "18446744073709551616", "1e999999999999",
	} {
		checkNumber(t, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		checkNumber(t, rapid.StringMatching(`-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number"))
	})
	rapid.Check(t, func(t *rapid.T) {
		f := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return
		}
		checkNumber(t, strconv.FormatFloat(f, 'e', -1, 64))
		checkNumber(t, strconv.FormatFloat(f, 'f', -1, 64))
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-", "1.", ".5", "1e", "--1", "0x10", "1_000", "NaN", "Infinity", "1.2.3", "", "00", "-01.50e+007"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b Batch
		b.Reset(1)
		b.Event()
		b.Number([]byte(s))
		batch := b.Bytes()
		switch SlotType(batch[16+7] & 15) {
		case SlotJSON:
			if string(batch[24:]) != s {
				t.Fatalf("%q became %q", s, batch[24:])
			}
		case SlotInt:
			if n, err := strconv.ParseInt(s, 10, 64); err != nil || uint64(n) != binary.LittleEndian.Uint64(batch[24:]) {
				t.Fatalf("%q is no such integer (%v)", s, err)
			}
		case SlotFloat:
			if v, err := strconv.ParseFloat(s, 64); err != nil || math.Float64bits(v) != binary.LittleEndian.Uint64(batch[24:]) {
				t.Fatalf("%q is no such float (%v)", s, err)
			}
		default:
			t.Fatalf("%q: meta %x", s, batch[20:24])
		}
	})
}

func TestBatchSaysWhatDoesNotFit(t *testing.T) {
	var b Batch
	for name, c := range map[string]struct {
		fill func()
		want error
	}{
		"value":  {func() { b.Reset(1); b.Event(); b.String(make([]byte, MaxValueBytes+1), false) }, ErrValueTooLarge},
		"values": {func() { b.Reset(1); b.Event(); b.Null(); b.Null() }, ErrTooManyValues},
		"slots":  {func() { b.Reset(MaxSlots + 1) }, ErrBatchTooLarge},
		"bytes": {func() {
			v := make([]byte, MaxValueBytes)
			b.Reset(1)
			for range 20 {
				b.Event()
				b.JSON(v)
			}
		}, ErrBatchTooLarge},
		"events": {func() {
			b.Reset(0)
			for range MaxBatchEvents + 1 {
				b.Event()
			}
		}, ErrBatchTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			c.fill()
			if err := b.Err(); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			b.Reset(1) // a fault of one batch never reaches the next
			b.Event()
			b.Null()
			if err := b.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if cap(b.data) > keptBytes {
		t.Errorf("the batch keeps %d bytes", cap(b.data))
	}
}

func TestBatchZeroValue(t *testing.T) {
	var b Batch
	if got := b.Bytes(); len(got) != 16 || string(got[:4]) != "WRB1" {
		t.Fatalf("zero batch is %x", got)
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	var b Batch
	dst := make([]byte, 1<<16)
	if n := testing.AllocsPerRun(100, func() { fillTypical(&b); b.CopyTo(dst); b.Bytes() }); n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

var (
	benchType, benchTotal = []byte("OrderCreated"), []byte("125.50")
	benchCount            = []byte("37")
)

func fillTypical(b *Batch) {
	b.Reset(3)
	for range 64 {
		b.Event()
		b.String(benchType, false)
		b.Number(benchTotal)
		b.Number(benchCount)
	}
}

func BenchmarkBatch64(b *testing.B) {
	var batch Batch
	dst := make([]byte, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		fillTypical(&batch)
		batch.CopyTo(dst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/event")
}
