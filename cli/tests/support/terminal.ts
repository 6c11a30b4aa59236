// What a terminal shows of what was written to it, as far as the command line speaks to one (ECMA-48, DEC private modes).

export interface Terminal {
  write(text: string): void
  /** Each as wide as the terminal. */
  readonly rows: readonly string[]
}

const ESCAPE = '\u001b'
const SEQUENCE = new RegExp(`^${ESCAPE}\\[(\\??)([\\d;]*)([A-Za-z])`)

/** Throws at a sequence that it does not know. */
export function createTerminal(columns: number, rowCount: number): Terminal {
  const grid = Array.from({ length: rowCount }, () => new Array<string>(columns).fill(' '))
  let row = 0
  let column = 0
  let doesWrap = true
  let unread = ''

  const obey = (isPrivate: boolean, parameters: string, command: string): void => {
    if (isPrivate && parameters === '7') doesWrap = command === 'h'
    else if (isPrivate || command === 'm') return
    else if (command === 'H' && parameters === '') [row, column] = [0, 0]
    // From the cursor on, which stands on the last column when that was written, and not behind it.
    else if (command === 'K' && parameters === '') grid[row]!.fill(' ', Math.min(column, columns - 1))
    else throw new Error(`a sequence that this terminal does not know: ${parameters}${command}`)
  }
  const print = (character: string): void => {
    if (character === '\r') column = 0
    else if (character === '\n') row = Math.min(row + 1, rowCount - 1)
    else {
      if (column === columns && doesWrap) [row, column] = [Math.min(row + 1, rowCount - 1), 0]
      column = Math.min(column, columns - 1)
      grid[row]![column] = character
      column++
    }
  }

  return {
    write: (text) => {
      unread += text
      while (unread !== '') {
        if (unread[0] !== ESCAPE) {
          print(unread[0]!)
          unread = unread.slice(1)
          continue
        }
        const sequence = SEQUENCE.exec(unread)
        // The rest of it is still to come.
        if (sequence === null) return
        const [whole, mark, parameters, command] = sequence
        obey(mark === '?', parameters!, command!)
        unread = unread.slice(whole.length)
      }
    },
    get rows() {
      return grid.map((cells) => cells.join(''))
    },
  }
}
