import java.io.*;
import java.util.*;
import org.quartz.CronExpression;

/** Reads lines of zone, instant and expression; prints the next 20 fires of each by Quartz, or why Quartz refuses it. */
public class Fires {
  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    PrintStream out = new PrintStream(new BufferedOutputStream(System.out), false, "UTF-8");
    for (String line; (line = in.readLine()) != null; ) {
      String[] parts = line.split("\t");
      try {
        CronExpression cron = new CronExpression(parts[2]);
        cron.setTimeZone(TimeZone.getTimeZone(parts[0]));
        StringBuilder fires = new StringBuilder("ok");
        Date at = new Date(Long.parseLong(parts[1]));
        for (int i = 0; i < 20; i++) {
          at = cron.getNextValidTimeAfter(at);
          if (at == null) break;
          fires.append('\t').append(at.getTime());
        }
        out.println(fires);
      } catch (Exception error) {
        out.println("refused\t" + String.valueOf(error.getMessage()).replace('\n', ' ').replace('\t', ' '));
      }
    }
    out.flush();
  }
}
