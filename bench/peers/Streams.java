// Kafka Streams: one thread, one `peek` and `to`. java -cp JARS Streams.java BOOTSTRAP SOURCE TARGET COUNT DIRECTORY
import java.lang.management.ManagementFactory;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

public class Streams {
    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    public static void main(String[] args) throws Exception {
        long count = Long.parseLong(args[3]);
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, UUID.randomUUID().toString());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put("auto.offset.reset", "earliest");
        settings.put(StreamsConfig.producerPrefix("acks"), "all");
        AtomicLong seen = new AtomicLong(), cpu = new AtomicLong(), at = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray())).peek((key, value) -> {
            if (seen.incrementAndGet() == count) done.countDown();
        }).to(args[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING && at.get() == 0) { // partitions are assigned, so fetching begins
                cpu.set(cpu());
                at.set(System.nanoTime());
            }
        });
        streams.start();
        boolean all = done.await(120, TimeUnit.SECONDS);
        streams.close(java.time.Duration.ofSeconds(30)); // flushes and commits
        double took = (System.nanoTime() - at.get()) / 1e9;
        double us = (cpu() - cpu.get()) / 1e3 / count;
        if (!all) System.exit(1);
        System.out.printf(java.util.Locale.ROOT, "{\"us\": %f, \"per_s\": %f}%n", us, count / took);
        System.exit(0);
    }
}
