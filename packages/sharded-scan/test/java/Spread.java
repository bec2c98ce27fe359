import java.nio.file.Files;
import java.nio.file.Path;

/** Prints, for each line of a file (UTF-16 units in hex), the hash of the text and its place among 2 x 4 tables. */
public class Spread {
  public static void main(String[] args) throws Exception {
    StringBuilder out = new StringBuilder();
    for (String line : Files.readAllLines(Path.of(args[0]))) {
      StringBuilder text = new StringBuilder();
      for (int i = 0; i < line.length(); i += 4) text.append((char) Integer.parseInt(line.substring(i, i + 4), 16));
      String key = text.toString();
      int h = key.hashCode();
      out.append(h).append(' ').append((2 * 4 - 1) & (h ^ (h >>> 16))).append('\n');
    }
    System.out.print(out);
  }
}
