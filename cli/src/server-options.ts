// The flags of the commands that meet a server for the first time.

import { hostname } from 'node:os'
import type { Command } from 'commander'

export interface ServerOptions {
  readonly server: string
  readonly name?: string
  readonly fingerprint?: string
}

const MAX_NAME_LENGTH = 64

export function addServerOptions(command: Command): Command {
  return command
    .requiredOption('--server <url>', 'address that the server prints: ws://HOST:PORT or wss://HOST')
    .option('--name <name>', 'name of this device, sealed to your devices (default: the name of this machine)')
    .option(
      '--fingerprint <text>',
      "the server's fingerprint as it prints it, or `its key` of a recovery sheet; without it the first answer is trusted: at once on this machine and over wss://, over ws:// when you have confirmed it or the device that lets this one in has",
    )
}

export function toServerOptions({ server, name, fingerprint }: ServerOptions) {
  return {
    serverUrl: server,
    name: name ?? hostname().slice(0, MAX_NAME_LENGTH),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  }
}
