// What package-lock.json must be so that a clone installs anywhere: no registry's address in it, and an entry for every
// optional package (one for each platform), since `npm ci` refuses to install without.

/** One sentence a fault; nothing when all is well. */
export function findLockFileFaults(text) {
  const { packages } = JSON.parse(text)
  return Object.entries(packages).flatMap(([path, { resolved, link, optionalDependencies = {} }]) => [
    ...(resolved && !link ? [`${path} says where it was fetched from`] : []),
    ...Object.keys(optionalDependencies)
      .filter((name) => !(`node_modules/${name}` in packages || `${path}/node_modules/${name}` in packages))
      .map((name) => `${path}: its optional package ${name} is not locked`),
  ])
}
