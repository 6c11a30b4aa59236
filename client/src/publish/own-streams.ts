// Which streams the client keeps for itself.

export const isOwnStream = (streamName: string): boolean => streamName.startsWith('valise/')
