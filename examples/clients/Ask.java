// A request and its answer with the Java client, in one file and without a build:
//   java -cp 'DIRECTORY OF JARS/*' Ask.java BOOTSTRAP KEY VALUE [OPERATION [PREFIX]]
// with kafka-clients and slf4j-api among the jars. Without an operation the request has no headers at all; its id is
// then where it lies. The client's default partitioner is the one of the keys: nothing has to be moved.
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Ask {
    static final Duration DEADLINE = Duration.ofSeconds(30);

    static String text(Headers headers, String name) {
        var header = headers.lastHeader(name);
        return header == null ? null : new String(header.value(), StandardCharsets.UTF_8);
    }

    public static void main(String[] given) throws Exception {
        String operation = given.length > 3 ? given[3] : "", prefix = given.length > 4 ? given[4] : "hal9.";
        Map<String, Object> to = Map.of("bootstrap.servers", given[0]);
        try (var consumer = new KafkaConsumer<>(to, new StringDeserializer(), new StringDeserializer());
                var producer = new KafkaProducer<>(to, new StringSerializer(), new StringSerializer())) {
            var places = consumer.partitionsFor(prefix + "responses", DEADLINE).stream()
                    .map(place -> new TopicPartition(place.topic(), place.partition())).toList();
            consumer.assign(places);
            consumer.seekToEnd(places);
            places.forEach(consumer::position); // known before the request leaves: no answer can be missed

            var request = new ProducerRecord<>(prefix + "requests", given[1], given[2]);
            String id = UUID.randomUUID().toString();
            if (!operation.isEmpty()) {
                request.headers().add("id", id.getBytes(StandardCharsets.UTF_8));
                request.headers().add("operation", operation.getBytes(StandardCharsets.UTF_8));
            }
            var stored = producer.send(request).get();
            String wanted = operation.isEmpty()
                    ? stored.topic() + "-" + stored.partition() + "-" + stored.offset() : id;

            long until = System.nanoTime() + DEADLINE.toNanos();
            while (System.nanoTime() < until) {
                for (var answer : consumer.poll(Duration.ofMillis(500))) {
                    if (wanted.equals(text(answer.headers(), "id"))) {
                        System.out.println(text(answer.headers(), "status") + " " + answer.value());
                        return;
                    }
                }
            }
            throw new IllegalStateException("no answer to " + wanted);
        }
    }
}
