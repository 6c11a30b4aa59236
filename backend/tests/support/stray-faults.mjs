// Loaded into a server process by `node --import`: SIGUSR2 rejects a promise that nobody handles, SIGHUP throws what
// nobody catches.

process.on('SIGUSR2', () => void Promise.reject(new Error('a stray rejection')))
process.on('SIGHUP', () => {
  throw new Error('a stray exception')
})
