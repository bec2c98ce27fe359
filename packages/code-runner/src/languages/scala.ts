import { defineLanguage, type Language } from './language.ts';

/** Options of {@link scala}. */
export interface ScalaOptions {
  /** Container image on Kubernetes. Default `hseeberger/scala-sbt:eclipse-temurin-17.0.2_1.6.2_2.13.8`. */
  readonly image?: string;
}

/** Bounds on the memory that a virtual machine uses besides its heap. Without them it does not start under a small limit. */
const jvm =
  '-XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:CompressedClassSpaceSize=64m -XX:ReservedCodeCacheSize=64m';

/**
 * Scala 2. All `.scala` files are compiled first; an error fails the run with COMPILE. A new task has `run.scala`, and `run.sh`, which
 * starts it.
 */
export function scala(options: ScalaOptions = {}): Language {
  return defineLanguage({
    name: 'scala',
    title: 'Scala',
    template: {
      'run.scala':
        'object Run {\n  def main(args: Array[String]): Unit = {\n    println("Hello from Scala " + scala.util.Properties.versionNumberString)\n  }\n}\n',
      'run.sh': 'exec scala -nc -cp /scratch/classes Run "$@"\n',
    },
    main: 'run.sh',
    image: options.image ?? 'hseeberger/scala-sbt:eclipse-temurin-17.0.2_1.6.2_2.13.8',
    requires: ['/usr/bin/scala', '/usr/bin/scalac', '/usr/bin/java'],
    interpreter: ['scala', '-nc', '-cp', '/scratch/classes'],
    compile:
      'mkdir -p /scratch/classes && find . -name "*.scala" -type f > /scratch/sources && scalac -d /scratch/classes @/scratch/sources',
    environment: { JAVA_OPTS: `-Xmx256m ${jvm}` },
    memoryOverheadBytes: 256 * 2 ** 20,
  });
}
