import com.sun.management.OperatingSystemMXBean;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;

/**
 * One thread that keeps a fixed live set and allocates a fixed volume: one object in ten takes the place of a random
 * live one, the others are dropped. Prints wall, CPU and collection time of the volume after a warm-up of a quarter.
 */
public final class JvmWitness {
    private static final int PAYLOAD_BYTES = 232;
    private static final int OBJECT_BYTES = 272; // payload with its header, and the node
    private static final int KEPT_ONE_IN = 10;

    private static final int TOO_SLOW = 3;
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private static final class Node {
        final Node other;
        final byte[] payload = new byte[PAYLOAD_BYTES];

        Node(Node other) {
            this.other = other;
        }
    }

    private static long state = 88172645463325252L;
    private static Node last;

    private static int random(int below) {
        state ^= state << 13;
        state ^= state >>> 7;
        state ^= state << 17;
        return (int) ((state >>> 33) % below);
    }

    private static void allocate(Node[] live, long objects, long mostCpuNs) {
        for (long i = 0; i < objects; i++) {
            if ((i & 0xffff) == 0 && SYSTEM.getProcessCpuTime() > mostCpuNs) {
                System.exit(TOO_SLOW);
            }
            Node node = new Node(null);
            node.payload[(int) i & 127] = (byte) i;
            last = node;
            if (i % KEPT_ONE_IN == 0) {
                live[random(live.length)] = node;
            }
        }
    }

    /** Young collections, their ms, full collections, their ms. */
    private static long[] collections() {
        long[] sums = new long[4];
        for (GarbageCollectorMXBean bean : ManagementFactory.getGarbageCollectorMXBeans()) {
            int at = bean.getName().equals("Copy") ? 0 : 2;
            sums[at] += bean.getCollectionCount();
            sums[at + 1] += bean.getCollectionTime();
        }
        return sums;
    }

    /** Arguments: MiB alive, MiB to allocate, the most seconds of CPU time (exit code 3 beyond). */
    public static void main(String[] arguments) {
        long mib = 1L << 20;
        Node[] live = new Node[(int) (Long.parseLong(arguments[0]) * mib / OBJECT_BYTES)];
        long objects = Long.parseLong(arguments[1]) * mib / OBJECT_BYTES;
        for (int i = 0; i < live.length; i++) {
            live[i] = new Node(i == 0 ? null : live[0]);
        }
        long mostCpuNs = Long.parseLong(arguments[2]) * 1_000_000_000L;
        allocate(live, objects / 4, mostCpuNs);
        long[] before = collections();
        long cpu = SYSTEM.getProcessCpuTime();
        long wall = System.nanoTime();
        allocate(live, objects, mostCpuNs);
        wall = System.nanoTime() - wall;
        cpu = SYSTEM.getProcessCpuTime() - cpu;
        long[] after = collections();
        System.out.printf("%d %d", wall, cpu);
        for (int i = 0; i < 4; i++) {
            System.out.printf(" %d", after[i] - before[i]);
        }
        System.out.println();
    }
}
