// The text format of Prometheus, as far as a server of ours writes it: families with their samples.

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: readonly Sample[]
}

/** `le` says which bucket of a histogram a sample is, and nothing about what was measured. */
function readLabels(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, value]) => [name ?? '', value ?? ''] as const)
  return Object.fromEntries(pairs.filter(([name]) => name !== 'le'))
}

/** Throws at the first line that is neither of the format nor of a family that was announced. */
export function parseExposition(text: string): Family[] {
  const families: (Family & { samples: Sample[] })[] = []
  const helpOf = new Map<string, string>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const help = /^# HELP (\S+) (.*)$/.exec(line)
    const type = /^# TYPE (\S+) (\S+)$/.exec(line)
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    const family = families.at(-1)
    if (help !== null) helpOf.set(help[1] ?? '', help[2] ?? '')
    else if (type !== null) {
      const [, name = '', kind = ''] = type
      families.push({ name, type: kind, help: helpOf.get(name) ?? '', samples: [] })
    } else if (sample !== null && family !== undefined && sample[1]?.startsWith(family.name)) {
      family.samples.push({
        name: sample[1],
        labels: readLabels(sample[2] ?? ''),
        value: Number(sample[3] === '+Inf' ? Infinity : sample[3]),
      })
    } else throw new Error(`not of the exposition format: ${line}`)
  }
  return families
}
