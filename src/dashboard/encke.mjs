// encke.js for `import Encke from "http://BOARD/encke.mjs"`.
import "./encke.js";
export const { Encke } = self;
export default Encke;
