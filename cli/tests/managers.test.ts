// Managers that would leave an account without one, take themselves out of it, or each other: one end for each, on a real
// server and by real processes.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice, makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, type Ended, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

let server: TestServer
beforeAll(async () => {
  server = await startServer(makeFolder())
})
afterAll(cleanUp)

const run = (home: string, ...args: string[]): Promise<Ended> => runValise([...args, '--yes', '--json'], { home })
/** Its exit code, and the code of its failure. */
const outcomeOf = ({ exitCode, stderr }: Ended): unknown[] => [
  exitCode,
  ...jsonLines(Buffer.from(stderr)).flatMap(({ error }) => (error === undefined ? [] : [error])),
]
const sends = async (home: string): Promise<void> => {
  expect(await runValise(['send', 'notes'], { home, input: 'still here\n' })).toMatchObject({ exitCode: 0, stderr: '' })
}
const statusesSeenBy = async (home: string) =>
  jsonLines((await run(home, 'devices')).stdout).flatMap(({ name, role, status }) =>
    role === 'recovery' ? [] : [[name, role, status]],
  )
/** A device whose home holds nothing any more but who it was. */
const expectErased = async (home: string): Promise<void> => {
  for (const command of ['status', 'send notes', 'devices', 'revoke laptop']) {
    expect(outcomeOf(await run(home, ...command.split(' ')))).toEqual([1, 'revoked'])
  }
}

async function makeTwoManagers(): Promise<TwoDevices> {
  const devices = await makeTwoDevices(server, makeFolder())
  expect(outcomeOf(await run(devices.laptop, 'role', 'phone', 'manager'))).toEqual([0])
  return devices
}

describe('the last manager', () => {
  it('DEV-7: neither revokes itself nor becomes a member, and goes on as before', async () => {
    const home = makeFolder()
    await initDevice(server, home)
    const before = lastJson((await run(home, 'status')).stdout)
    for (const args of [
      ['revoke', 'laptop'],
      ['role', 'laptop', 'member'],
    ]) {
      const refused = await run(home, ...args)
      expect(outcomeOf(refused)).toEqual([1, 'last_manager'])
      expect(JSON.parse(refused.stderr).message).toContain('Make another device a manager first')
    }
    await sends(home)
    const { log_seq, epoch, role } = lastJson((await run(home, 'status')).stdout)
    expect({ log_seq, epoch, role }).toEqual({ log_seq: before['log_seq'], epoch: before['epoch'], role: 'manager' })
  })
})

describe('one of two managers', () => {
  it('DEV-7: becomes a member by its own hand, and then changes nothing', async () => {
    const { laptop, phone } = await makeTwoManagers()
    expect(outcomeOf(await run(phone, 'role', 'phone', 'member'))).toEqual([0])
    for (const args of [['role', 'phone', 'manager'], ['revoke', 'laptop'], ['rotate'], ['recovery', 'new']]) {
      expect(outcomeOf(await run(phone, ...args))).toEqual([1, 'not_a_manager'])
    }
    expect(outcomeOf(await run(laptop, 'role', 'laptop', 'member'))).toEqual([1, 'last_manager'])
    await sends(phone)
    expect((await statusesSeenBy(laptop)).map(([, role]) => role)).toEqual(['manager', 'member'])
  })

  it('DEV-7: revokes itself: its home is erased, and the other one goes on', async () => {
    const { laptop, phone } = await makeTwoManagers()
    await sends(phone)
    const revoked = await run(phone, 'revoke', 'phone')
    expect(outcomeOf(revoked)).toEqual([0])
    expect(lastJson(revoked.stdout)).toMatchObject({ type: 'revoked', name: 'phone', was_active: true })
    await expectErased(phone)
    const read = await runValise(['watch', 'notes', '--count', '1'], { home: laptop })
    expect(read.stdout.toString()).toBe('still here\n')
    await sends(laptop)
    expect(await statusesSeenBy(laptop)).toEqual([
      ['laptop', 'manager', 'active'],
      ['phone', 'manager', 'revoked'],
    ])
    expect(outcomeOf(await run(laptop, 'revoke', 'laptop'))).toEqual([1, 'last_manager'])
  })
})

describe('two managers', () => {
  it('DEV-7: that revoke each other at once: one does, and the other is erased', async () => {
    const { laptop, phone } = await makeTwoManagers()
    const [byLaptop, byPhone] = await Promise.all([run(laptop, 'revoke', 'phone'), run(phone, 'revoke', 'laptop')])
    const outcomes = [outcomeOf(byLaptop), outcomeOf(byPhone)]
    expect(outcomes).toContainEqual([0])
    expect(outcomes).toContainEqual([3, 'device_revoked'])
    const [winner, loser] = byLaptop.exitCode === 0 ? [laptop, phone] : [phone, laptop]
    await expectErased(loser)
    await sends(winner)
    expect((await statusesSeenBy(winner)).map(([, , status]) => status).sort()).toEqual(['active', 'revoked'])
    expect(lastJson((await run(winner, 'status')).stdout)).toMatchObject({ role: 'manager', epoch: 2 })
  })
})
