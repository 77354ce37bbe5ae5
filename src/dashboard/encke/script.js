// The library for `<script src="http://BOARD/encke.js">`: `Encke` in every page.
import { Encke } from "./board.js";

self.Encke = Encke;
