// What a session has acknowledged is saved once, and again when saving failed.

import { expect, test } from 'vitest'
import { createAcknowledgedCursor } from '../src/gateway/acknowledged-cursor.ts'

function createScene() {
  const stored: number[] = []
  let isAway = false
  const cursor = createAcknowledgedCursor(async (value) => {
    if (isAway) throw new Error('the database is away')
    stored.push(value)
  })
  return { cursor, stored, setAway: (value: boolean) => (isAway = value) }
}

test('P4: a cursor whose save failed is saved by the next one', async () => {
  const { cursor, stored, setAway } = createScene()
  cursor.acknowledge(5)
  setAway(true)
  await expect(cursor.save()).rejects.toThrow('away')
  setAway(false)
  await cursor.save()
  expect(stored).toEqual([5])
})

test('P4: a saved cursor is not saved again, and an older one takes nothing back', async () => {
  const { cursor, stored } = createScene()
  await cursor.save()
  cursor.acknowledge(5)
  await cursor.save()
  cursor.acknowledge(3)
  await cursor.save()
  cursor.acknowledge(6)
  await cursor.save()
  expect(stored).toEqual([5, 6])
})

test('P4: what is acknowledged while a save is under way is saved by the next one', async () => {
  let finish: () => void = () => {}
  const stored: number[] = []
  const cursor = createAcknowledgedCursor(async (value) => {
    await new Promise<void>((resolve) => (finish = resolve))
    stored.push(value)
  })
  cursor.acknowledge(1)
  const first = cursor.save()
  cursor.acknowledge(2)
  finish()
  await first
  const second = cursor.save()
  finish()
  await second
  expect(stored).toEqual([1, 2])
})
