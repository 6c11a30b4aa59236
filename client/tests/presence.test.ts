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
    const view = createPresenceView(fail)
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
    const view = createPresenceView(fail)
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
    const view = createPresenceView((error) => void failures.push(error))
    view.apply({ type: 'presence', is_snapshot: true, devices: [word(3, false, 7)] })
    view.add(() => fail(new Error('listener')))
    expect(listen(view).heard).toEqual([[{ deviceId: id(3), isOnline: false, lastSeenAtMs: 7 }]])
    expect(failures).toHaveLength(1)
  })
})
