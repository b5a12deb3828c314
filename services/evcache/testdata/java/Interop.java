import com.netflix.evcache.EVCache;
import com.netflix.evcache.EVCacheLatch;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * Does with the original EVCache client what is asked on standard input, one command a line:
 * VERB APP KEY [TYPE BASE64 TTL]. Each is answered with one line: "ok …", "miss" or "error …". Keys and
 * values travel in base64. Applications are found by the original's own NODES properties.
 */
public final class Interop {
    private static final Map<String, EVCache> CACHES = new HashMap<>();

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        out.println("ready");
        for (String line; (line = in.readLine()) != null; ) {
            String answer;
            try {
                answer = answer(line.split(" "));
            } catch (Throwable t) {
                answer = "error " + t.toString().replace('\n', ' ');
            }
            out.println(answer);
        }
        System.exit(0);
    }

    private static EVCache cache(String app) {
        return CACHES.computeIfAbsent(app, a -> new EVCache.Builder().setAppName(a).setCachePrefix("flix")
                .enableRetry().enableExceptionPropagation().build());
    }

    private static String text(String base64) {
        return new String(Base64.getDecoder().decode(base64), StandardCharsets.UTF_8);
    }

    private static String answer(String[] w) throws Exception {
        EVCache cache = cache(w[1]);
        String key = text(w[2]);
        switch (w[0]) {
            case "get":
                return show(cache.get(key));
            case "set": {
                EVCacheLatch latch = cache.set(key, value(w[3], w[4]), Integer.parseInt(w[5]), EVCacheLatch.Policy.ALL);
                // For a value in pieces the latch opens before every piece is stored.
                int n = 0;
                for (Future<Boolean> f : latch.getAllFutures()) {
                    n += f.get(60, TimeUnit.SECONDS) ? 1 : 0;
                }
                return n == latch.getAllFutures().size() ? "ok " + n : "error latch " + latch;
            }
            case "append": {
                EVCacheLatch latch = cache.appendOrAdd(key, value(w[3], w[4]), null, Integer.parseInt(w[5]), EVCacheLatch.Policy.ALL);
                return latch.await(60, TimeUnit.SECONDS) ? "ok " + latch.getSuccessCount() : "error latch " + latch;
            }
            case "delete": {
                int n = 0;
                for (Future<Boolean> f : cache.delete(key)) {
                    n += f.get(60, TimeUnit.SECONDS) ? 1 : 0;
                }
                return "ok " + n;
            }
            case "touch": {
                int n = 0;
                for (Future<Boolean> f : cache.touch(key, Integer.parseInt(w[3]))) {
                    n += f.get(60, TimeUnit.SECONDS) ? 1 : 0;
                }
                return "ok " + n;
            }
            default:
                return "error unknown command " + w[0];
        }
    }

    private static Object value(String type, String base64) {
        switch (type) {
            case "string":
                return text(base64);
            case "bytes":
                return Base64.getDecoder().decode(base64);
            case "int":
                return Integer.valueOf(text(base64));
            case "long":
                return Long.valueOf(text(base64));
            case "boolean":
                return Boolean.valueOf(text(base64));
            case "double":
                return Double.valueOf(text(base64));
            default:
                throw new IllegalArgumentException("type " + type);
        }
    }

    private static String show(Object v) {
        if (v == null) {
            return "miss";
        }
        if (v instanceof byte[]) {
            return "ok bytes " + Base64.getEncoder().encodeToString((byte[]) v);
        }
        String type = v.getClass().getSimpleName().toLowerCase().replace("integer", "int");
        return "ok " + type + " " + Base64.getEncoder().encodeToString(v.toString().getBytes(StandardCharsets.UTF_8));
    }
}
