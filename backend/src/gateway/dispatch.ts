// From a message to its handler, with its cost charged in between. A service takes messages only through `createDispatch`,
// whose table is total, so that nothing a client can say is free or forgotten (LIM-10).

import type { ClientMessage } from '@valise/protocol'
import { MESSAGE_COSTS, type Microseconds } from '../limits/costs.ts'

export type MessageHandlers = {
  readonly [Type in ClientMessage['type']]: (message: Extract<ClientMessage, { type: Type }>) => void
}

declare const charged: unique symbol
/** Only `createDispatch` makes one. */
export type Dispatch = ((message: ClientMessage) => void) & { readonly [charged]: true }

export function createDispatch(handlers: MessageHandlers, charge: (cost: Microseconds) => void): Dispatch {
  const dispatch = (message: ClientMessage): void => {
    charge(MESSAGE_COSTS[message.type])
    const handle = handlers[message.type] as (message: ClientMessage) => void
    handle(message)
  }
  return dispatch as Dispatch
}
