// What a client makes of the server's words about its user's other devices (PRE-2).

import { type DeviceId, toDeviceId } from '@valise/protocol'
import { describe, expect, it } from 'vitest'
import { createPresenceView, type PresencePicture } from '../src/presence.ts'

const id = (value: number): DeviceId => toDeviceId(new Uint8Array(16).fill(value))!
const word = (value: number, isOnline: boolean, lastSeenAt: number | null = null) => ({
  device_id: id(value),
  is_online: isOnline,
  last_seen_at: lastSeenAt,
})
const fail = (error: unknown): never => {
  throw error
}

function listen(view: ReturnType<typeof createPresenceView>) {
  const heard: PresencePicture[] = []
  return { heard, remove: view.add((picture) => void heard.push(picture)) }
}

describe('presence', () => {
  it('PRE-2: a snapshot, then changes, add up to the whole picture', () => {
    const view = createPresenceView(fail, () => true)
    const { heard, remove } = listen(view)
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(1, true, 5), word(2, false)] })
    view.apply({ type: 'presence', is_snapshot: false, devices: [word(2, true, 9)] })
    const first = { deviceId: id(1), isOnline: true, lastSeenAtMs: 5 }
    expect(heard).toEqual([
      undefined,
      [first, { deviceId: id(2), isOnline: false, lastSeenAtMs: undefined }],
      [first, { deviceId: id(2), isOnline: true, lastSeenAtMs: 9 }],
    ])
    remove()
    view.apply({ type: 'presence', is_snapshot: true, devices: [] })
    expect(heard).toHaveLength(3)
    expect(view.picture).toEqual([])
  })

  it('PRE-2: without a session nothing is known, and a change alone says nothing', () => {
    const view = createPresenceView(fail, () => true)
    view.apply({ type: 'presence', is_snapshot: false, devices: [word(1, true)] })
    expect(view.picture).toBeUndefined()
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(1, true)] })
    const { heard } = listen(view)
    view.forget()
    view.forget()
    expect(heard).toEqual([[{ deviceId: id(1), isOnline: true, lastSeenAtMs: undefined }], undefined])
  })

  it('PRE-2: a listener that comes late hears the present picture, one that throws harms nobody', () => {
    const failures: unknown[] = []
    const view = createPresenceView(
      (error) => void failures.push(error),
      () => true,
    )
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(3, false, 7)] })
    view.add(() => fail(new Error('listener')))
    expect(listen(view).heard).toEqual([[{ deviceId: id(3), isOnline: false, lastSeenAtMs: 7 }]])
    expect(failures).toHaveLength(1)
  })

  it('PRE-2: a device that the device log does not know, or no longer, is not in the picture', () => {
    const known = new Set([1, 2])
    const view = createPresenceView(fail, (deviceId) => known.has(deviceId[0]!))
    const { heard } = listen(view)
    const shown = () => view.picture?.map(({ deviceId }) => deviceId[0])
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(1, true), word(2, true), word(3, true)] })
    expect(shown()).toEqual([1, 2])
    view.apply({ type: 'presence', is_snapshot: false, devices: [word(4, true)] })
    expect(heard).toHaveLength(2)
    known.add(3)
    known.delete(1)
    view.deviceLogGrew()
    expect([shown(), heard.length]).toEqual([[2, 3], 3])
  })

  it('PRE-2: ever new ids leave neither memory nor work behind', () => {
    let asked = 0
    const view = createPresenceView(fail, (deviceId) => {
      asked += 1
      return deviceId[15] === 0
    })
    const fresh = (n: number) => {
      const bytes = new Uint8Array(16).fill(1)
      new DataView(bytes.buffer).setUint32(0, n)
      return { device_id: toDeviceId(bytes)!, is_online: true, last_seen_at: null }
    }
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(0, true)] })
    for (let n = 0; n < 2000; n++) view.apply({ type: 'presence', is_snapshot: false, devices: [fresh(n)] })
    expect(view.picture).toHaveLength(1)
    // A bounded number for each message, where the whole picture was copied for each before.
    expect(asked).toBeLessThan(2000 * 60)
  })
})
