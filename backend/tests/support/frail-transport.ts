// The real transport over a connection that breaks at a frame of the test's choice: one that goes out is not sent, one that
// comes in is not delivered, and nothing after it.

import type { Transport } from '../../../client/src/transport.ts'

/** `passes` is asked at each frame, in order, over all connections. */
export function createFrailTransport(transport: Transport, passes: () => boolean): Transport {
  return {
    connect: (url, { onOpen, onMessage, onClose }) => {
      let isOver = false
      const inner = transport.connect(url, {
        onOpen: () => {
          if (!isOver) onOpen()
        },
        onMessage: (data) => {
          if (isOver) return
          if (passes()) onMessage(data)
          else breakOff()
        },
        onClose: (code, reason) => {
          if (isOver) return
          isOver = true
          onClose(code, reason)
        },
      })
      const breakOff = (): void => {
        isOver = true
        inner.close(1000, '')
        queueMicrotask(() => onClose(1006, ''))
      }
      return {
        send: (data) => {
          if (isOver) return
          if (passes()) inner.send(data)
          else breakOff()
        },
        close: inner.close,
        get bufferedAmount() {
          return inner.bufferedAmount
        },
      }
    },
  }
}
