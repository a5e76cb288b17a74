package main

import (
	"math/rand"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

const (
	firstTimeout = 200 * time.Millisecond // Linux's smallest retransmission timeout
	lastTimeout  = 120 * time.Second      // and its longest
	givenUp      = 15 * time.Minute       // about when it would end the connection
	waiting      = 1024                   // pieces that may wait behind one that was lost
)

// Loss passes everything on in its order, a share of it as late as TCP has it there once a segment was lost: after a
// retransmission timeout, twice as long each time it is lost again. What came meanwhile waits behind it, and is lost or
// not at its own time.
type Loss struct {
	Share float64 `json:"share"`
	Seed  int64   `json:"seed"`

	mutex  sync.Mutex
	chance *rand.Rand
}

func (loss *Loss) GetBufferSize() int {
	return waiting
}

// The connections of a proxy draw from one sequence, which follows from the seed.
func (loss *Loss) late() time.Duration {
	loss.mutex.Lock()
	defer loss.mutex.Unlock()
	if loss.chance == nil {
		loss.chance = rand.New(rand.NewSource(loss.Seed))
	}
	late := time.Duration(0)
	for timeout := firstTimeout; late < givenUp && loss.chance.Float64() < loss.Share; timeout = min(2*timeout, lastTimeout) {
		late += timeout
	}
	return late
}

func (loss *Loss) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case piece := <-stub.Input:
			if piece == nil {
				stub.Close()
				return
			}
			timer := time.NewTimer(loss.late() - time.Since(piece.Timestamp))
			select {
			case <-timer.C:
				stub.Output <- piece
			case <-stub.Interrupt:
				timer.Stop()
				stub.Output <- piece
				return
			}
		}
	}
}

func init() {
	toxics.Register("loss", new(Loss))
}
