-- Which genre has the most films of each decade?
with counted as (

    select
        movies.decade,
        genres.genre,
        count(*) as films,
        row_number() over (partition by movies.decade order by count(*) desc, genres.genre asc) as place
    from {{ ref('bridge_movie_genres') }} as genres
    inner join {{ ref('dim_movies') }} as movies on genres.movie_key = movies.movie_key
    where movies.decade is not null
    group by movies.decade, genres.genre

)

select
    decade,
    genre,
    films
from counted
where place = 1
order by decade
